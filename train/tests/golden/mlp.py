"""Makes mlp.txt, the golden vectors that train/tests/mlp/golden.rs reads: outputs, losses, gradients, ten AdamW steps.

To make them anew, from the repository's root, with the version that the file's first line names:

    python3 -m venv /tmp/golden && /tmp/golden/bin/pip install torch numpy
    /tmp/golden/bin/python train/tests/golden/mlp.py

The format is that of gpt.txt. Inputs come from numpy's PCG64, which is stable over versions. PyTorch computes in f64.
Tensors have the names of the state of torch.nn.Sequential.
"""

import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from gpt import line

STEPS, LR, BETAS, EPS, DECAY = 10, 3e-3, (0.9, 0.99), 1e-8, 0.1
ACTIVATIONS = dict(silu=nn.SiLU, relu=nn.ReLU, gelu=nn.GELU, tanh=nn.Tanh)
LOSSES = {
    "mse": lambda c: F.mse_loss,
    "l1": lambda c: F.l1_loss,
    "huber": lambda c: lambda y, t: F.huber_loss(y, t, delta=c["delta"]),
    "bce": lambda c: F.binary_cross_entropy_with_logits,
    "cross-entropy": lambda c: F.cross_entropy,
}
torch.set_default_dtype(torch.float64)


def f32(rng, shape):
    return torch.from_numpy(rng.standard_normal(shape).astype(np.float32).astype(np.float64))


def case(c, seed):
    rng = np.random.default_rng(seed)
    widths = [c["inputs"]] + [int(n) for n in c["hidden"].split(",") if n] + [c["outputs"]]
    layers = []
    for inputs, outputs in zip(widths, widths[1:]):
        layers += [nn.Linear(inputs, outputs), ACTIVATIONS[c["activation"]]()]
    model = nn.Sequential(*layers[:-1])
    out = [" ".join(f"{k}={v}" for k, v in c.items()) + f" lr={LR} beta1={BETAS[0]} beta2={BETAS[1]} eps={EPS} "
           f"weight_decay={DECAY} steps={STEPS}"]
    for name, tensor in model.named_parameters():
        tensor.data = (0.5 * f32(rng, tuple(tensor.shape))).float().double()
        out.append(line(name, tensor))
    x = f32(rng, (STEPS, c["batch"], c["inputs"]))
    out.append(line("x", x))
    if c["loss"] == "cross-entropy":
        t = torch.from_numpy(rng.integers(c["outputs"], size=(STEPS, c["batch"])))
        out.append("t " + "".join(f"{v:08x}" for v in t.flatten().tolist()))
    else:
        t = torch.from_numpy(rng.integers(2, size=(STEPS, c["batch"]))).double() if c["loss"] == "bce" else \
            1.5 * f32(rng, (STEPS, c["batch"]))
        t = t.float().double()
        out.append(line("t", t))

    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, betas=BETAS, eps=EPS, weight_decay=DECAY)
    losses = []
    for step in range(STEPS):
        y = model(x[step])
        y = y if c["loss"] == "cross-entropy" else y.squeeze(1)
        loss = LOSSES[c["loss"]](c)(y, t[step])
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            out.append(line("outputs", y))
            out += [line("gradient." + name, p.grad) for name, p in model.named_parameters()]
        losses.append(loss)
        optimizer.step()
    out.append(line("losses", torch.stack(losses)))
    return out + [line("after." + name, p) for name, p in model.named_parameters()]


def main():
    base = dict(inputs=5, hidden="7,6,4", outputs=1, batch=9, delta=0.8)
    cases = [
        dict(case="mse", loss="mse", activation="silu", **base),
        dict(case="l1", loss="l1", activation="relu", **base),
        dict(case="huber", loss="huber", activation="gelu", **base),
        dict(case="bce", loss="bce", activation="tanh", **base),
        dict(case="classes", loss="cross-entropy", activation="silu", **dict(base, outputs=5, hidden="8")),
        dict(case="linear", loss="mse", activation="silu", **dict(base, hidden="")),
        dict(case="logistic", loss="cross-entropy", activation="silu", **dict(base, outputs=2, hidden="")),
    ]
    out = [f"# PyTorch {torch.__version__}; see mlp.py"]
    for seed, c in enumerate(cases):
        out += case(c, seed)
    (pathlib.Path(__file__).parent / "mlp.txt").write_text("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
