"""Makes optim.txt, the golden vectors of SGD, Lion and Adafactor that tests/oracle/optim_golden.rs reads.

To make them anew, from the repository's root, as make_golden.py says: `/tmp/golden/bin/python tests/golden/optim.py`.
The file has the same format. Lion is not in PyTorch: its formula is written out here in PyTorch's operations.
"""

import pathlib
import struct

import numpy as np
import torch

HERE = pathlib.Path(__file__).parent
torch.set_num_threads(1)
STEPS = 3


def line(name, tensor):
    values = tensor.detach().to(torch.float32).flatten().tolist()
    return name + " " + "".join(struct.pack(">f", x).hex() for x in values)


def inputs(n, seed):
    rng = np.random.default_rng(seed)
    param = torch.from_numpy(rng.standard_normal(n).astype(np.float32))
    # Gradients over four orders of magnitude, with exact zeros among them.
    scale = 10.0 ** rng.uniform(-4, 0, n)
    grads = [torch.from_numpy((rng.standard_normal(n) * scale).astype(np.float32)) for _ in range(STEPS)]
    for g in grads:
        g[::9] = 0.0
    return param, grads


def words(name, options):
    return f"case={name} " + " ".join(f"{k}={float(v)!r}" for k, v in options.items())


def run(out, opt, p, grads, names):
    for i, g in enumerate(grads):
        p.grad = g.clone().view_as(p)
        opt.step()
        out.append(line(f"param{i + 1}", p))
        for ours, theirs in names.items():
            out.append(line(f"{ours}{i + 1}", opt.state[p][theirs]))


class Lion(torch.optim.Optimizer):
    """Algorithm 2 of arXiv 2302.06675, in the order of operations of the authors' code."""

    def __init__(self, params, **options):
        super().__init__(params, options)

    @torch.no_grad()
    def step(self):
        for o in self.param_groups:
            for p in o["params"]:
                g, state = (-p.grad if o["maximize"] else p.grad), self.state[p]
                if not state:
                    state["exp_avg"] = torch.zeros_like(p)
                m = state["exp_avg"]
                p.mul_(1 - o["lr"] * o["weight_decay"])
                update = m.clone().mul_(o["beta1"]).add(g, alpha=1 - o["beta1"]).sign_()
                p.add_(update, alpha=-o["lr"])
                m.mul_(o["beta2"]).add_(g, alpha=1 - o["beta2"])


def main():
    n = 3 * 19
    param, grads = inputs(n, 1)
    capability = torch.backends.cpu.get_cpu_capability()
    out = [f"# PyTorch {torch.__version__}, CPU capability {capability}; see optim.py"]
    out += [line("param", param)] + [line(f"grad{i + 1}", g) for i, g in enumerate(grads)]

    base = dict(lr=0.1, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, maximize=False)
    for name, implementation, changes in [
        ("sgd_fused", "fused", {}),
        ("sgd_l2_foreach", "foreach", dict(weight_decay=0.1, maximize=True)),
        ("sgd_momentum_fused", "fused", dict(momentum=0.9)),
        ("sgd_momentum_l2_fused", "fused", dict(momentum=0.9, weight_decay=5e-4)),
        ("sgd_dampened_fused", "fused", dict(momentum=0.8, dampening=0.3)),
        ("sgd_dampened_foreach", "foreach", dict(momentum=0.8, dampening=0.3, maximize=True)),
        ("sgd_nesterov_fused", "fused", dict(momentum=0.9, nesterov=True)),
        ("sgd_nesterov_l2_foreach", "foreach", dict(momentum=0.9, nesterov=True, weight_decay=0.1)),
    ]:
        o = base | changes
        p = param.clone().requires_grad_()
        opt = torch.optim.SGD([p], **o, **{implementation: True})
        out.append(words(name, o))
        run(out, opt, p, grads, {"buffer": "momentum_buffer"} if o["momentum"] else {})

    base = dict(lr=1e-2, beta1=0.9, beta2=0.99, weight_decay=0.0, maximize=False)
    for name, changes in [
        ("lion", {}),
        ("lion_decay", dict(weight_decay=0.3, beta2=0.95)),
        ("lion_maximize", dict(maximize=True, beta1=0.5)),
    ]:
        o = base | changes
        p = param.clone().requires_grad_()
        out.append(words(name, o))
        run(out, Lion([p], **o), p, grads, {"m": "exp_avg"})

    base = dict(lr=1e-2, beta2_decay=-0.8, eps1=torch.finfo(torch.float32).eps, eps2=1e-3, d=1.0, weight_decay=0.0,
                maximize=False)
    for name, shape, foreach, changes in [
        ("adafactor_matrix", (3, 19), False, {}),
        ("adafactor_matrix_decay_foreach", (3, 19), True, dict(weight_decay=0.3, maximize=True)),
        ("adafactor_tall", (57, 1), False, dict(lr=0.9, d=2.0)),
        ("adafactor_matrix_eps", (19, 3), False, dict(eps1=1e-2, eps2=3.0, beta2_decay=-0.5)),
        ("adafactor_vector", (n,), False, {}),
        ("adafactor_vector_decay_foreach", (n,), True, dict(weight_decay=0.3, lr=0.9, beta2_decay=-0.3)),
        ("adafactor_vector_eps", (n,), False, dict(eps1=1e-2, eps2=3.0, d=4.0)),
    ]:
        o = base | changes
        p = param.clone().view(shape).requires_grad_()
        opt = torch.optim.Adafactor(
            [p], lr=o["lr"], beta2_decay=o["beta2_decay"], eps=(o["eps1"], o["eps2"]), d=o["d"],
            weight_decay=o["weight_decay"], maximize=o["maximize"], foreach=foreach,
        )
        rows, cols = shape if len(shape) == 2 else (n, 0)
        out.append(words(name, dict(rows=rows, cols=cols) | o))
        names = {"row": "row_var", "col": "col_var"} if cols else {"row": "variance"}
        run(out, opt, p, grads, names)
    (HERE / "optim.txt").write_text("\n".join(out) + "\n")


main()
