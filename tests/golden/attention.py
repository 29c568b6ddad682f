"""Makes attention.txt, golden vectors of PyTorch's scaled_dot_product_attention; see make_golden.py for format and setup."""

import pathlib
import struct

import numpy as np
import torch
import torch.nn.functional as F

torch.set_num_threads(1)


def line(name, tensor):
    values = tensor.detach().to(torch.float32).flatten().tolist()
    return name + " " + "".join(struct.pack(">f", x).hex() for x in values)


def main():
    capability = torch.backends.cpu.get_cpu_capability()
    out = [f"# PyTorch {torch.__version__}, CPU capability {capability}; see attention.py"]
    # batch, heads, heads of keys, queries, keys, size of a head
    cases = [
        ("causal", (2, 2, 2, 9, 9, 8), True, None),
        ("full", (1, 2, 2, 5, 11, 16), False, None),
        ("causal_gqa", (1, 4, 2, 7, 7, 6), True, 0.7),
        ("full_mqa", (2, 3, 1, 4, 6, 5), False, 0.25),
        ("causal_more_keys", (1, 1, 1, 4, 7, 4), True, None),
    ]
    for seed, (name, (b, h, kv, t, s, d), causal, scale) in enumerate(cases):
        rng = np.random.default_rng(seed)
        shapes = [(b, h, t, d), (b, kv, s, d), (b, kv, s, d), (b, h, t, d)]
        q, k, v, dout = [torch.from_numpy(rng.standard_normal(x).astype(np.float32)) for x in shapes]
        out.append(f"case={name} batch={b} heads={h} kv_heads={kv} queries={t} keys={s} dim={d} causal={int(causal)} "
                   f"scale={scale or d ** -0.5!r}")
        out += [line(n, x) for n, x in [("q", q), ("k", k), ("v", v), ("dout", dout)]]
        for suffix, dtype in [("", torch.float32), ("64", torch.float64)]:
            qkv = [x.detach().clone().to(dtype).requires_grad_() for x in (q, k, v)]
            y = F.scaled_dot_product_attention(*qkv, is_causal=causal, scale=scale, enable_gqa=h != kv)
            y.backward(dout.to(dtype))
            out.append(line("out" + suffix, y))
            out += [line(n + suffix, x.grad) for n, x in zip(["dq", "dk", "dv"], qkv)]
    pathlib.Path(__file__).with_name("attention.txt").write_text("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
