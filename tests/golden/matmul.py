"""Makes matmul.txt, the golden vectors that tests/oracle/matmul_golden.rs reads.

To make them anew, from the repository's root, with the version that the file's first line names:

    python3 -m venv /tmp/golden && /tmp/golden/bin/pip install torch numpy
    /tmp/golden/bin/python tests/golden/matmul.py

The format is make_golden.py's. Each case has PyTorch's result in f32 (`c`) and in f64, rounded to f32 (`c64`).
"""

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
out = [f"# PyTorch {torch.__version__}, CPU capability {capability}; see matmul.py"]

# A name, what it computes, and how a (m by k), b (k by n), c and bias are stored.
CASES = [
    # x @ y
    ("matmul", 7, 19, 37, lambda a, b, c, bias: a @ b, "a b"),
    # A layer: its weight is stored as the transpose of b.
    ("linear", 5, 33, 64, lambda a, b, c, bias: F.linear(a, b.T, bias), "a bt bias"),
    # The gradient of its weight: its inputs are stored as the transpose of a.
    ("weight_grad", 17, 9, 40, lambda a, b, c, bias: a @ b, "at b"),
    ("both_transposed", 6, 18, 23, lambda a, b, c, bias: (b.T @ a.T).T, "at bt"),
    # Added to what is there.
    ("addmm", 13, 16, 31, lambda a, b, c, bias: torch.addmm(c, a, b), "a b c"),
    ("addmm_long", 2, 3, 600, lambda a, b, c, bias: torch.addmm(c, a, b), "a b c"),
]
for name, m, n, k, f, operands in CASES:
    rng = np.random.default_rng(k)
    normal = lambda *shape: torch.from_numpy(rng.standard_normal(shape).astype(np.float32))
    a, b, c, bias = normal(m, k), normal(k, n), normal(m, n), normal(n)
    out.append(f"case={name} m={m} n={n} k={k}")
    stored = {"a": a, "at": a.T, "b": b, "bt": b.T, "start": c, "bias": bias}
    out += [line(o, stored[o]) for o in operands.replace("c", "start").split()]
    out.append(line("c", f(a, b, c, bias)))
    out.append(line("c64", f(*(t.to(torch.float64) for t in (a, b, c, bias)))))
(HERE / "matmul.txt").write_text("\n".join(out) + "\n")
