"""Makes rmsnorm.txt, the golden vectors of RMSNorm, and of both norms after a residual's addition, that tests/oracle/rms.rs
reads. How to run it and what a line means: make_golden.py.
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
out = [f"# PyTorch {torch.__version__}, CPU capability {capability}; see rmsnorm.py"]
eps = 1e-5
for features, rows, mean, add in [(8, 3, 0, 0), (37, 3, 0, 0), (128, 3, 0, 0), (512, 2, 0, 0), (37, 4, 0, 1), (37, 4, 1, 1)]:
    rng = np.random.default_rng(features + mean)
    normal = lambda *shape: torch.from_numpy(rng.standard_normal(shape).astype(np.float32))
    x, residual, dy, dh = (normal(rows, features) for _ in range(4))
    gamma, beta = 1 + 0.1 * normal(features), normal(features)
    x[1] = x[1] * 3 - 2
    x[-1] *= 1e3
    name = f"{'layernorm' if mean else 'rmsnorm'}{'_add' if add else ''}_{features}"
    out.append(f"case={name} rows={rows} features={features} mean={mean} add={add} eps={eps!r}")
    out += [line("x", x), line("dy", dy), line("gamma", gamma)]
    if mean:
        out.append(line("beta", beta))
    h = x
    if add:
        h = x + residual
        out += [line("residual", residual), line("dh", dh), line("h", h)]
    # PyTorch in f32, then in f64 rounded to f32: what is right, and how far off PyTorch itself is. The sum h is f32 in both.
    for suffix, dtype in [("", torch.float32), ("64", torch.float64)]:
        a, w, b = (t.to(dtype).requires_grad_() for t in (h.clone(), gamma.clone(), beta.clone()))
        y = F.layer_norm(a, (features,), w, b, eps) if mean else F.rms_norm(a, (features,), w, eps)
        # h goes on to the residual stream, too, from where its gradient dh comes.
        loss = (y * dy.to(dtype)).sum()
        if add:
            loss = loss + (a * dh.to(dtype)).sum()
        loss.backward()
        out += [line("y" + suffix, y), line("dx" + suffix, a.grad), line("dgamma" + suffix, w.grad)]
        if mean:
            out.append(line("dbeta" + suffix, b.grad))
(HERE / "rmsnorm.txt").write_text("\n".join(out) + "\n")
