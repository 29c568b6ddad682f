"""Makes embedding.txt, as make_golden.py makes the other files; ids are written as f32, which are exact."""

import pathlib
import struct

import numpy as np
import torch
import torch.nn.functional as F

HERE = pathlib.Path(__file__).parent
torch.set_num_threads(1)


def line(name, tensor):
    values = tensor.detach().to(torch.float32).flatten().tolist()
    return name + " " + "".join(struct.pack(">f", x).hex() for x in values)


capability = torch.backends.cpu.get_cpu_capability()
out = [f"# PyTorch {torch.__version__}, CPU capability {capability}; see embedding.py"]
for n, vocab, features in [(6, 11, 16), (40, 7, 5), (24, 50, 19)]:
    rng = np.random.default_rng(n)
    normal = lambda *shape: torch.from_numpy(rng.standard_normal(shape).astype(np.float32))
    ids = torch.from_numpy(rng.integers(0, vocab, n))
    table, positions, dy = normal(vocab, features).requires_grad_(), normal(4, features), normal(n, features)
    y = F.embedding(ids, table)
    y.backward(dy)
    out.append(f"case=embedding_{n} n={n} vocab={vocab} features={features}")
    out += [line("ids", ids), line("table", table), line("positions", positions), line("dy", dy), line("y", y)]
    out += [line("y_positions", y + positions[torch.arange(n) % 4]), line("dtable", table.grad)]
(HERE / "embedding.txt").write_text("\n".join(out) + "\n")
