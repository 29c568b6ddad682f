"""Times PyTorch's CPU kernels on the sizes of `hotlanes report`: one JSON object a line, the report's keys.

    python3 -m venv venv && venv/bin/pip install torch numpy
    taskset -c 0 venv/bin/python benches/peers/pytorch.py --threads 1

Ratios hold within one run on one machine: take turns with the report (`hotlanes report --json --full`), and compare the
rows of equal kernel and size. Windows and statistics are the report's: the minimum over many short windows, and the median.
"""

import argparse
import json
import time

import torch
import torch.nn.functional as F


def measure(f, budget, window=1e-4):
    """Minimum and median seconds of a call, over windows of at least `window` seconds within `budget` seconds."""
    f()
    start = time.perf_counter()
    f()
    calls = max(1, int(window / (time.perf_counter() - start)))
    samples, end = [], time.perf_counter() + budget
    while len(samples) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(calls):
            f()
        samples.append((time.perf_counter() - start) / calls)
    samples.sort()
    return samples[0], samples[len(samples) // 2]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--budget", type=float, default=0.5, help="seconds for each row")
    parser.add_argument("--only", default="", help="part of a kernel's name")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)

    def row(kernel, size, f, amount, unit):
        if args.only not in kernel:
            return
        with torch.no_grad():
            seconds, median = measure(f, args.budget)
        print(json.dumps({"kernel": kernel, "size": size, "tier": "torch " + torch.__version__, "threads": args.threads,
                          "seconds": seconds, "median": median, "throughput": amount / seconds / 1e9, "unit": unit}),
              flush=True)

    for n in [4096, 65536, 2_359_296, 1 << 25]:
        param = torch.randn(n, requires_grad=True)
        param.grad = torch.randn(n)
        row("adamw", str(n), torch.optim.AdamW([param], lr=1e-3, fused=True).step, n, "Gparam/s")

    for rows, features in [(256, 512), (512, 512), (1024, 512), (2048, 512), (2048, 128), (1024, 768), (256, 4096), (4096, 64)]:
        size, n = f"{rows}x{features}", rows * features
        x, dy = torch.randn(rows, features), torch.randn(rows, features)
        w, b = torch.ones(features), torch.zeros(features)
        _, mean, rstd = torch.native_layer_norm(x, (features,), w, b, 1e-5)
        backward = torch.ops.aten.native_layer_norm_backward
        row("layernorm_fwd", size, lambda: F.layer_norm(x, (features,), w, b), 8 * n, "GB/s")
        row("layernorm_bwd", size, lambda: backward(dy, x, (features,), mean, rstd, w, b, [True] * 3), 12 * n, "GB/s")

    sizes = [(784, 128, .5, 1), (784, 128, .1, 32), (784, 128, .5, 32), (784, 128, .5, 512), (784, 128, .1, 512),
             (1024, 1024, .1, 64), (1024, 1024, .05, 128), (1024, 1024, .01, 128)]
    for inputs, outputs, density, batch in sizes:
        w = ((torch.rand(outputs, inputs) < density).float() * torch.randn(outputs, inputs)).to_sparse_csr()
        x = torch.randn(inputs, batch)
        amount = len(w.values()) * batch
        row("sparse_fwd", f"{inputs}x{outputs}@{density}b{batch}", lambda: w @ x, amount, "Gconn/s")

    for m, n, k in [(256, 256, 256), (512, 512, 512), (1024, 1024, 1024), (1, 512, 512)]:
        x, y, out = torch.randn(m, k), torch.randn(k, n), torch.empty(m, n)
        row("matmul", f"{m}x{n}x{k}", lambda: torch.mm(x, y, out=out), 2 * m * n * k, "Gflop/s")
    for m, n, k in [(2048, 512, 128), (2048, 384, 128)]:
        x, w, b = torch.randn(m, k), torch.randn(n, k), torch.randn(n)
        row("linear", f"{m}x{n}x{k}", lambda: F.linear(x, w, b), 2 * m * n * k, "Gflop/s")
    for m, n, k in [(128, 512, 2048)]:
        dy, x, out = torch.randn(k, m), torch.randn(k, n), torch.empty(m, n)
        row("linear_weight_grad", f"{m}x{n}x{k}", lambda: torch.mm(dy.T, x, out=out), 2 * m * n * k, "Gflop/s")


if __name__ == "__main__":
    main()
