"""Makes gpt.txt, the golden vectors that train/tests/gpt/golden.rs reads: logits, loss, gradients, ten AdamW steps.

To make them anew, from the repository's root, with the version that the file's first line names:

    python3 -m venv /tmp/golden && /tmp/golden/bin/pip install torch numpy
    /tmp/golden/bin/python train/tests/golden/gpt.py

A line is a name, a space, and f32 values as eight hex digits of their bits each. Lines with `key=value` words open a case; `#`
starts a comment. Inputs come from numpy's PCG64, which is stable over versions. PyTorch computes in f64.
"""

import pathlib
import struct

import numpy as np
import torch
import torch.nn.functional as F

STEPS, LR, BETAS, EPS, DECAY, CLIP = 10, 3e-3, (0.9, 0.95), 1e-8, 0.1, 0.5
torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)


def line(name, values):
    return name + " " + "".join(struct.pack(">f", x).hex() for x in values.detach().flatten().tolist())


def shapes(c):
    dim, out = c["dim"], {}
    out["transformer.wte.weight"] = (c["vocab"], dim)
    out["transformer.wpe.weight"] = (c["block"], dim)
    for i in range(c["layers"]):
        name = f"transformer.h.{i}."
        for part, shape in [("attn.c_attn", (3 * dim, dim)), ("attn.c_proj", (dim, dim)),
                            ("mlp.c_fc", (4 * dim, dim)), ("mlp.c_proj", (dim, 4 * dim))]:
            out[name + part + ".weight"] = shape
            if c["bias"]:
                out[name + part + ".bias"] = shape[:1]
        for norm in ["ln_1", "ln_2"]:
            out[name + norm + ".weight"] = (dim,)
            if c["bias"] and c["norm"] == "layernorm":
                out[name + norm + ".bias"] = (dim,)
    out["transformer.ln_f.weight"] = (dim,)
    if c["bias"] and c["norm"] == "layernorm":
        out["transformer.ln_f.bias"] = (dim,)
    if not c["tied"]:
        out["lm_head.weight"] = (c["vocab"], dim)
    return out


def logits(c, p, tokens):
    def norm(x, name):
        if c["norm"] == "rmsnorm":
            return F.rms_norm(x, (c["dim"],), p[name + ".weight"], 1e-5)
        return F.layer_norm(x, (c["dim"],), p[name + ".weight"], p.get(name + ".bias"), 1e-5)

    def linear(x, name):
        return F.linear(x, p[name + ".weight"], p.get(name + ".bias"))

    batch, time = tokens.shape
    x = p["transformer.wte.weight"][tokens] + p["transformer.wpe.weight"][:time]
    for i in range(c["layers"]):
        name = f"transformer.h.{i}."
        qkv = linear(norm(x, name + "ln_1"), name + "attn.c_attn").split(c["dim"], 2)
        q, k, v = (t.view(batch, time, c["heads"], -1).transpose(1, 2) for t in qkv)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(x.shape)
        x = x + linear(y, name + "attn.c_proj")
        h = linear(norm(x, name + "ln_2"), name + "mlp.c_fc")
        h = F.gelu(h, approximate="tanh") if c["act"] == "gelu" else F.relu(h) ** 2
        x = x + linear(h, name + "mlp.c_proj")
    head = p["transformer.wte.weight" if c["tied"] else "lm_head.weight"]
    return F.linear(norm(x, "transformer.ln_f"), head)


def case(c, seed):
    rng = np.random.default_rng(seed)
    p, size = {}, (c["batch"], c["time"])
    out = [" ".join(f"{k}={v}" for k, v in c.items()) + f" lr={LR} beta1={BETAS[0]} beta2={BETAS[1]} eps={EPS} "
           f"weight_decay={DECAY} clip={CLIP} steps={STEPS}"]
    for name, shape in shapes(c).items():
        values = (0.25 * rng.standard_normal(shape)).astype(np.float32)
        if ".ln_" in name and name.endswith("weight"):
            values += np.float32(1)
        p[name] = torch.from_numpy(values.astype(np.float64)).requires_grad_()
        out.append(line(name, p[name]))
    batches = [rng.integers(c["vocab"], size=(2, *size)) for _ in range(STEPS)]
    out.append("tokens " + "".join(f"{t:08x}" for b in batches for t in b[0].flatten()))
    out.append("targets " + "".join(f"{t:08x}" for b in batches for t in b[1].flatten()))

    matrices = [t for t in p.values() if t.dim() == 2]
    vectors = [t for t in p.values() if t.dim() == 1]
    groups = [dict(params=matrices, weight_decay=DECAY), dict(params=vectors, weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=BETAS, eps=EPS)
    losses, norms = [], []
    for step, (tokens, targets) in enumerate(batches):
        y = logits(c, p, torch.from_numpy(tokens))
        loss = F.cross_entropy(y.flatten(0, 1), torch.from_numpy(targets).flatten())
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            out.append(line("logits", y))
            out += [line("gradient." + name, t.grad) for name, t in p.items()]
        losses.append(loss)
        norms.append(torch.nn.utils.clip_grad_norm_(list(p.values()), CLIP))
        optimizer.step()
    out.append(line("losses", torch.stack(losses)))
    out.append(line("norms", torch.stack(norms)))
    return out + [line("after." + name, t) for name, t in p.items()]


def main():
    gpt2 = dict(case="gpt2", layers=2, heads=2, dim=16, block=8, vocab=11, batch=4, time=8, norm="layernorm", act="gelu",
                tied=0, bias=1)
    lean = dict(case="lean", layers=2, heads=4, dim=8, block=9, vocab=7, batch=3, time=6, norm="rmsnorm",
                act="squared-relu", tied=1, bias=0)
    out = [f"# PyTorch {torch.__version__}; see gpt.py"] + case(gpt2, 1) + case(lean, 2)
    (pathlib.Path(__file__).parent / "gpt.txt").write_text("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
