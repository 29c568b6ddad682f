"""Makes muon.txt, the golden vectors of Muon that tests/oracle/muon.rs reads.

torch.optim.Muon as it is, which iterates in bf16, and again with its Newton-Schulz iterations in f32.

To make them anew, from the repository's root, as make_golden.py says: `/tmp/golden/bin/python tests/golden/muon.py`.
"""

import inspect
import pathlib
import struct

import torch
import torch.optim._muon as module

HERE = pathlib.Path(__file__).parent

source = inspect.getsource(module._zeropower_via_newtonschulz)
assert source.count("torch.bfloat16") == 1
scope = {"torch": torch, "Tensor": torch.Tensor}
exec(source.replace("torch.bfloat16", "torch.float32"), scope)
ITERATIONS = {"bf16": module._zeropower_via_newtonschulz, "f32": scope["_zeropower_via_newtonschulz"]}


def line(name, tensor):
    values = tensor.detach().flatten().tolist()
    return name + " " + "".join(struct.pack(">f", v).hex() for v in values)


def main():
    torch.manual_seed(1)
    torch.set_num_threads(1)
    out = [f"# PyTorch {torch.__version__}; see muon.py"]
    for name, rows, cols, o in [
        ("wide", 6, 10, dict(lr=0.02, momentum=0.95, nesterov=True, weight_decay=0.1)),
        ("tall", 12, 5, dict(lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.0)),
        ("plain", 12, 5, dict(lr=0.05, momentum=0.8, nesterov=False, weight_decay=0.3)),
        ("square", 8, 8, dict(lr=0.01, momentum=0.95, nesterov=True, weight_decay=0.5)),
        ("rms", 9, 4, dict(lr=0.01, momentum=0.95, nesterov=True, weight_decay=0.5, adjust_lr_fn="match_rms_adamw")),
    ]:
        start, grads = torch.randn(rows, cols), [torch.randn(rows, cols) for _ in range(3)]
        scale = "match_rms_adamw" if "adjust_lr_fn" in o else "original"
        out.append(
            f"case={name} rows={rows} cols={cols} lr={o['lr']} momentum={o['momentum']} "
            f"nesterov={int(o['nesterov'])} weight_decay={o['weight_decay']} scale={scale}"
        )
        out.append(line("param", start))
        out += [line(f"grad{i + 1}", g) for i, g in enumerate(grads)]
        for dtype, iterations in ITERATIONS.items():
            module._zeropower_via_newtonschulz = iterations
            p = torch.nn.Parameter(start.clone())
            opt = torch.optim.Muon([p], **o)
            for i, g in enumerate(grads):
                p.grad = g.clone()
                opt.step()
                out.append(line(f"{dtype}_{i + 1}", p))
            out.append(line(f"{dtype}_buffer", opt.state[p]["momentum_buffer"]))
    (HERE / "muon.txt").write_text("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
