"""Makes adamw.txt and layernorm.txt, the golden vectors that tests/oracle/golden.rs reads.

To make them anew, from the repository's root, with the version that the files' first lines name:

    python3 -m venv /tmp/golden && /tmp/golden/bin/pip install torch numpy
    /tmp/golden/bin/python tests/golden/make_golden.py

A line is a name, a space, and f32 values as eight hex digits of their bits each, so nothing is lost. Lines with
`key=value` words open a case; `#` starts a comment. Inputs come from numpy's PCG64, which is stable over versions.
"""

import pathlib
import struct

import numpy as np
import torch

HERE = pathlib.Path(__file__).parent
torch.set_num_threads(1)


def line(name, tensor):
    values = tensor.detach().to(torch.float32).flatten().tolist()
    return name + " " + "".join(struct.pack(">f", x).hex() for x in values)


def header():
    capability = torch.backends.cpu.get_cpu_capability()
    return [f"# PyTorch {torch.__version__}, CPU capability {capability}; see make_golden.py"]


def adamw():
    n, steps = 37, 4
    rng = np.random.default_rng(1)
    param = torch.from_numpy(rng.standard_normal(n).astype(np.float32))
    # Gradients over six orders of magnitude, with exact zeros among them.
    scale = 10.0 ** rng.uniform(-5, 1, n)
    grads = [torch.from_numpy((rng.standard_normal(n) * scale).astype(np.float32)) for _ in range(steps)]
    for g in grads:
        g[::9] = 0.0

    out = header() + [line("param", param)] + [line(f"grad{i + 1}", g) for i, g in enumerate(grads)]
    adam, adamw = torch.optim.Adam, torch.optim.AdamW
    base = dict(lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2, maximize=False, amsgrad=False)
    cases = [
        ("adamw_fused", adamw, "fused", {}),
        ("adamw_foreach", adamw, "foreach", {}),
        ("adamw_amsgrad_fused", adamw, "fused", dict(amsgrad=True, lr=3e-2)),
        ("adamw_maximize_fused", adamw, "fused", dict(maximize=True, betas=(0.3, 0.95))),
        ("adam_l2_fused", adam, "fused", dict(weight_decay=0.1)),
        ("adam_l2_foreach", adam, "foreach", dict(weight_decay=0.1, eps=1e-6)),
        ("adam_amsgrad_foreach", adam, "foreach", dict(amsgrad=True, weight_decay=0.0, eps=1e-20)),
    ]
    for name, cls, implementation, changes in cases:
        o = base | changes
        p = param.clone().requires_grad_()
        opt = cls([p], **o, **{implementation: True})
        out.append(
            f"case={name} l2={int(cls is adam)} lr={o['lr']!r} beta1={o['betas'][0]!r} beta2={o['betas'][1]!r} "
            f"eps={o['eps']!r} weight_decay={o['weight_decay']!r} maximize={int(o['maximize'])} "
            f"amsgrad={int(o['amsgrad'])}"
        )
        for i, g in enumerate(grads):
            p.grad = g.clone()
            opt.step()
            state = opt.state[p]
            out.append(line(f"param{i + 1}", p))
            out.append(line(f"m{i + 1}", state["exp_avg"]))
            out.append(line(f"v{i + 1}", state["exp_avg_sq"]))
            if o["amsgrad"]:
                out.append(line(f"v_max{i + 1}", state["max_exp_avg_sq"]))
    (HERE / "adamw.txt").write_text("\n".join(out) + "\n")


def layernorm():
    out = header()
    eps = 1e-5
    for features, rows in [(8, 3), (37, 3), (128, 3), (512, 2)]:
        rng = np.random.default_rng(features)
        normal = lambda *shape: torch.from_numpy(rng.standard_normal(shape).astype(np.float32))
        x = normal(rows, features)
        x[1] = x[1] * 3 - 2
        # The last row's mean is 1e4 times its deviation: a one-pass variance is lost here.
        x[-1] += 1e4
        dy, gamma, beta = normal(rows, features), 1 + 0.1 * normal(features), normal(features)
        out.append(f"case=layernorm_{features} rows={rows} features={features} eps={eps!r}")
        out += [line("x", x), line("dy", dy), line("gamma", gamma), line("beta", beta)]
        # PyTorch in f32, then in f64 rounded to f32: what is right, and how far off PyTorch itself is.
        for suffix, dtype in [("", torch.float32), ("64", torch.float64)]:
            a, w, b = (t.to(dtype).requires_grad_() for t in (x.clone(), gamma.clone(), beta.clone()))
            y, mean, rstd = torch.native_layer_norm(a, (features,), w, b, eps)
            y.backward(dy.to(dtype))
            out += [line("y" + suffix, y), line("mean" + suffix, mean), line("rstd" + suffix, rstd)]
            out += [line("dx" + suffix, a.grad), line("dgamma" + suffix, w.grad), line("dbeta" + suffix, b.grad)]
    (HERE / "layernorm.txt").write_text("\n".join(out) + "\n")


adamw()
layernorm()
