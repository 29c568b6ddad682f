"""Makes loss.txt, the golden vectors of softmax and cross-entropy that tests/oracle/golden_loss.rs reads.

As make_golden.py, whose header says how: /tmp/golden/bin/python tests/golden/loss.py
"""

import pathlib
import struct

import numpy as np
import torch
import torch.nn.functional as F

torch.set_num_threads(1)


def line(name, tensor):
    values = tensor.detach().to(torch.float32).flatten().tolist()
    return name + " " + "".join(struct.pack(">f", x).hex() for x in values)


capability = torch.backends.cpu.get_cpu_capability()
out = [f"# PyTorch {torch.__version__}, CPU capability {capability}; see loss.py"]
IGNORE = 9999
cases = [(10, 5, 0.0, "mean"), (65, 4, 0.1, "mean"), (65, 4, 0.0, "sum"), (512, 2, 0.25, "mean"), (3, 7, 1.0, "sum")]
for classes, rows, smoothing, reduction in cases:
    rng = np.random.default_rng(classes)
    normal = lambda *shape: torch.from_numpy(rng.standard_normal(shape).astype(np.float32))
    x, dy = 3 * normal(rows, classes), normal(rows, classes)
    labels = torch.from_numpy(rng.integers(0, classes, rows))
    # An ignored row, and one far from zero.
    labels[1] = IGNORE
    x[-1] += 1e4
    out.append(f"case=loss_{classes}_{reduction} rows={rows} classes={classes} smoothing={smoothing} "
               f"mean={int(reduction == 'mean')} ignore={IGNORE}")
    out += [line("x", x), line("dy", dy), line("labels", labels)]
    # PyTorch in f32, then in f64 rounded to f32: what is right, and how far off PyTorch itself is.
    for suffix, dtype in [("", torch.float32), ("64", torch.float64)]:
        for name, f in [("y", torch.softmax), ("log", torch.log_softmax)]:
            a = x.to(dtype, copy=True).requires_grad_()
            y = f(a, -1)
            y.backward(dy.to(dtype))
            out += [line(name + suffix, y), line("d" + name + ("_" if name == "y" else "") + suffix, a.grad)]
        a = x.to(dtype, copy=True).requires_grad_()
        options = dict(ignore_index=IGNORE, label_smoothing=smoothing)
        loss = F.cross_entropy(a, labels, reduction=reduction, **options)
        loss.backward()
        losses = F.cross_entropy(a, labels, reduction="none", **options)
        out += [line("loss" + suffix, loss), line("losses" + suffix, losses), line("dlogits" + suffix, a.grad)]
(pathlib.Path(__file__).parent / "loss.txt").write_text("\n".join(out) + "\n")
