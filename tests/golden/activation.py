"""Makes activation.txt, the golden vectors of the activations; see make_golden.py for the format and how to run it."""

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


FUNCTIONS = {
    "relu": F.relu,
    "squared_relu": lambda x: F.relu(x).square(),
    "silu": F.silu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_erf": F.gelu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "identity": lambda x: x * 1,
}

rng = np.random.default_rng(1)
x = np.concatenate([rng.standard_normal(48) * 2, np.linspace(-12, 12, 33), [0.0, -0.0, 1e-30, -1e-30, 60.0, -60.0]])
x = torch.from_numpy(x.astype(np.float32))
dy = torch.from_numpy(rng.standard_normal(len(x)).astype(np.float32))
out = [f"# PyTorch {torch.__version__}, CPU capability {torch.backends.cpu.get_cpu_capability()}; see activation.py",
       line("x", x), line("dy", dy)]
for name, f in FUNCTIONS.items():
    out.append(f"case={name}")
    # PyTorch in f32, then in f64 rounded to f32: what is right, and how far off PyTorch itself is.
    for suffix, dtype in [("", torch.float32), ("64", torch.float64)]:
        a = x.to(dtype).clone().requires_grad_()
        y = f(a)
        y.backward(dy.to(dtype))
        out += [line("y" + suffix, y), line("dx" + suffix, a.grad)]
(HERE / "activation.txt").write_text("\n".join(out) + "\n")
