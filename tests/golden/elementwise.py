"""Makes elementwise.txt, the golden vectors of elementwise losses (how to run it, and what a line is: make_golden.py).

    /tmp/golden/bin/python tests/golden/elementwise.py
"""

import pathlib
import struct

import numpy as np
import torch
import torch.nn.functional as F

torch.set_num_threads(1)
rng = np.random.default_rng(11)


def line(name, tensor):
    values = tensor.detach().to(torch.float32).flatten().tolist()
    return name + " " + "".join(struct.pack(">f", x).hex() for x in values)


capability = torch.backends.cpu.get_cpu_capability()
out = [f"# PyTorch {torch.__version__}, CPU capability {capability}; see elementwise.py"]
x = torch.from_numpy((3 * rng.standard_normal(100)).astype(np.float32))
target = torch.from_numpy(rng.random(100, dtype=np.float32))
# Hard targets among soft ones, logits far out, and a prediction that is right.
target[::3] = target[::3].round()
x[:4] = torch.tensor([30.0, -30.0, 90.0, -90.0])
x[50] = target[50]
out += [line("x", x), line("target", target)]
losses = dict(mse=F.mse_loss, l1=F.l1_loss, bce=F.binary_cross_entropy_with_logits,
              huber=lambda a, t, reduction: F.huber_loss(a, t, reduction=reduction, delta=1.5))
for name, f in losses.items():
    # In f32, then in f64 rounded to f32: what is right.
    for suffix, dtype in [("", torch.float32), ("64", torch.float64)]:
        a = x.to(dtype, copy=True).requires_grad_()
        loss = f(a, target.to(dtype), reduction="sum")
        loss.backward()
        out += [line(name + suffix, loss), line(f"d{name}{suffix}", a.grad)]
(pathlib.Path(__file__).parent / "elementwise.txt").write_text("\n".join(out) + "\n")
