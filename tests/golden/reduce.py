"""Makes reduce.txt, the golden vectors of reductions and clipping; how to run it and what a line is, make_golden.py says.

    /tmp/golden/bin/python tests/golden/reduce.py
"""

import pathlib
import struct

import numpy as np
import torch

torch.set_num_threads(1)
rng = np.random.default_rng(7)


def line(name, tensor):
    values = tensor.detach().to(torch.float32).flatten().tolist()
    return name + " " + "".join(struct.pack(">f", x).hex() for x in values)


def normal(n):
    return torch.from_numpy(rng.standard_normal(n).astype(np.float32))


capability = torch.backends.cpu.get_cpu_capability()
out = [f"# PyTorch {torch.__version__}, CPU capability {capability}; see reduce.py"]

# A mean that is not lost in the deviations, so that relative errors mean something.
x, y = normal(300) + 2, normal(300) + 1
out += [line("x", x), line("y", y)]
# In f32, then in f64 rounded to f32: what is right.
for suffix, a, b in [("", x, y), ("64", x.double(), y.double())]:
    variance, mean = torch.var_mean(a, unbiased=False)
    results = dict(sum=a.sum(), dot=torch.dot(a, b), norm=a.norm(), mean=mean, variance=variance, max=a.max())
    out += [line(name + suffix, result) for name, result in results.items()]

# Clipped, clipped after unscaling, and left alone.
for name, max_norm, grad_scale, size in [("clipped", 1.0, 1.0, 1.0), ("unscaled", 0.5, 1024.0, 500.0), ("small", 1.0, 1.0, 1e-3)]:
    n, lr = 48, 1e-2
    start = normal(n)
    cut = lambda t: list(t.split([n // 2, n // 4, n - n // 2 - n // 4]))
    parts = [p.clone().requires_grad_() for p in cut(start)]
    optimizer = torch.optim.AdamW(parts, lr=lr, fused=True)
    out += [f"case={name} max_norm={max_norm} grad_scale={grad_scale} lr={lr}", line("param", start)]
    for i in range(1, 4):
        grad = normal(n) * size
        for p, g in zip(parts, cut(grad)):
            p.grad = g.clone() / grad_scale
        norm = torch.nn.utils.clip_grad_norm_(parts, max_norm)
        out += [line(f"grad{i}", grad), line(f"norm{i}", norm), line(f"clipped{i}", torch.cat([p.grad for p in parts]))]
        optimizer.step()
        state = [optimizer.state[p] for p in parts]
        out += [line(f"param{i}", torch.cat(parts))]
        out += [line(f"m{i}", torch.cat([s["exp_avg"] for s in state]))]
        out += [line(f"v{i}", torch.cat([s["exp_avg_sq"] for s in state]))]

(pathlib.Path(__file__).parent / "reduce.txt").write_text("\n".join(out) + "\n")
