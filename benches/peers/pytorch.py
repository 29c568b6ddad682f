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

    for n in [65536, 2_359_296]:
        for name, options in [("sgd_momentum", dict(fused=True)), ("sgd_momentum foreach", dict(foreach=True))]:
            param = torch.randn(n, requires_grad=True)
            param.grad = torch.randn(n)
            row(name, str(n), torch.optim.SGD([param], lr=1e-4, momentum=0.9, **options).step, n, "Gparam/s")

        # Lion is not in PyTorch: its formula in PyTorch's operations.
        p, g, m = torch.randn(n), torch.randn(n), torch.randn(n)

        def lion():
            p.mul_(1 - 1e-4 * 0.1)
            p.add_(m.clone().mul_(0.9).add_(g, alpha=0.1).sign_(), alpha=-1e-4)
            m.mul_(0.99).add_(g, alpha=0.01)

        row("lion", str(n), lion, n, "Gparam/s")
        side = int(n ** 0.5)
        for name, foreach in [("adafactor", False), ("adafactor foreach", True)]:
            param = torch.randn(side, side, requires_grad=True)
            param.grad = torch.randn(side, side)
            step = torch.optim.Adafactor([param], foreach=foreach).step
            row(name, f"{side}x{side}", step, n, "Gparam/s")

    for rows, features in [(256, 512), (512, 512), (1024, 512), (2048, 512), (2048, 128), (1024, 768), (256, 4096), (4096, 64)]:
        size, n = f"{rows}x{features}", rows * features
        x, dy = torch.randn(rows, features), torch.randn(rows, features)
        w, b = torch.ones(features), torch.zeros(features)
        _, mean, rstd = torch.native_layer_norm(x, (features,), w, b, 1e-5)
        backward = torch.ops.aten.native_layer_norm_backward
        row("layernorm_fwd", size, lambda: F.layer_norm(x, (features,), w, b), 8 * n, "GB/s")
        row("layernorm_bwd", size, lambda: backward(dy, x, (features,), mean, rstd, w, b, [True] * 3), 12 * n, "GB/s")

    # No native RMSNorm on the CPU: autograd's backward of its steps, whose graph is kept.
    for rows, features in [(256, 512), (2048, 512), (2048, 128)]:
        size, n = f"{rows}x{features}", rows * features
        x, dy = torch.randn(rows, features, requires_grad=True), torch.randn(rows, features)
        w = torch.ones(features, requires_grad=True)
        y = F.rms_norm(x, (features,), w, 1e-5)
        row("rmsnorm_fwd", size, lambda: F.rms_norm(x, (features,), w, 1e-5), 8 * n, "GB/s")
        row("rmsnorm_bwd", size, lambda: torch.autograd.grad(y, (x, w), dy, retain_graph=True), 12 * n, "GB/s")
    for n in [1 << 16, 1 << 20]:
        x, dy, aten = torch.rand(n) * 2 - 1, torch.randn(n), torch.ops.aten
        row("gelu_tanh_fwd", str(n), lambda: F.gelu(x, approximate="tanh"), 8 * n, "GB/s")
        row("gelu_tanh_bwd", str(n), lambda: aten.gelu_backward(dy, x, approximate="tanh"), 12 * n, "GB/s")
        row("gelu_erf_fwd", str(n), lambda: F.gelu(x), 8 * n, "GB/s")
        row("gelu_erf_bwd", str(n), lambda: aten.gelu_backward(dy, x), 12 * n, "GB/s")
        row("silu_fwd", str(n), lambda: F.silu(x), 8 * n, "GB/s")
        row("silu_bwd", str(n), lambda: aten.silu_backward(dy, x), 12 * n, "GB/s")
    for rows, features in [(256, 512), (2048, 512), (2048, 65), (4096, 10), (64, 32768)]:
        size, n = f"{rows}x{features}", rows * features
        x, dy = torch.randn(rows, features), torch.randn(rows, features)
        y, labels = torch.softmax(x, -1), torch.randint(0, features, (rows,))
        logits = x.clone().requires_grad_()

        def cross_entropy():
            with torch.enable_grad():
                logits.grad = None
                F.cross_entropy(logits, labels).backward()

        backward = torch.ops.aten._softmax_backward_data
        row("softmax_fwd", size, lambda: torch.softmax(x, -1), 8 * n, "GB/s")
        row("softmax_bwd", size, lambda: backward(dy, y, -1, torch.float32), 12 * n, "GB/s")
        row("cross_entropy", size, cross_entropy, 8 * n, "GB/s")

    for batch, heads, seq, dim in [(32, 8, 64, 16), (8, 12, 256, 64)]:
        size, flops = f"{batch}x{heads}x{seq}x{dim}", 2 * batch * heads * seq * (seq + 1) // 2 * dim
        q, k, v, dout = (torch.randn(batch, heads, seq, dim) for _ in range(4))
        aten, flash = torch.ops.aten, torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        out, lse = flash(q, k, v, 0.0, True)
        row("attention_fwd", size, lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True), 2 * flops, "GFLOP/s")
        backward = aten._scaled_dot_product_flash_attention_for_cpu_backward
        row("attention_bwd", size, lambda: backward(dout, q, k, v, out, lse, 0.0, True), 5 * flops, "GFLOP/s")

    sizes = [(784, 128, .5, 1), (784, 128, .1, 32), (784, 128, .5, 32), (784, 128, .5, 512), (784, 128, .1, 512),
             (1024, 1024, .1, 64), (1024, 1024, .05, 128), (1024, 1024, .01, 128)]
    for inputs, outputs, density, batch in sizes:
        w = ((torch.rand(outputs, inputs) < density).float() * torch.randn(outputs, inputs)).to_sparse_csr()
        x = torch.randn(inputs, batch)
        amount = len(w.values()) * batch
        row("sparse_fwd", f"{inputs}x{outputs}@{density}b{batch}", lambda: w @ x, amount, "Gconn/s")

    for n in [1 << 16, 1 << 20, 1 << 22]:
        x, y = torch.randn(n), torch.randn(n)
        row("sum", str(n), lambda: torch.sum(x), 4 * n, "GB/s")
        row("dot", str(n), lambda: torch.dot(x, y), 8 * n, "GB/s")
        row("norm", str(n), lambda: x.norm(), 4 * n, "GB/s")
        row("mean_var", str(n), lambda: torch.var_mean(x, unbiased=False), 4 * n, "GB/s")
        row("max", str(n), lambda: torch.max(x), 4 * n, "GB/s")

    for k, n in [(4, 65536), (8, 1 << 20)]:
        buffers = torch.randn(k, n)
        dst = torch.empty(n)
        row("aggregate", f"{k}x{n}", lambda: torch.sum(buffers, 0, out=dst).mul_(1 / k), 4 * (k + 1) * n, "GB/s")

    params = [torch.randn(65536, requires_grad=True) for _ in range(36)]
    for p in params:
        p.grad = torch.randn_like(p)
    optimizer = torch.optim.AdamW(params, lr=1e-3, fused=True)

    def clip_step():
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()

    row("clip_adamw", "36x65536", clip_step, 36 * 65536, "Gparam/s")
    for vocab, features, n in [(1000, 64, 4096), (50_257, 256, 16_384), (50_257, 768, 8192)]:
        size, amount = f"{vocab}x{features}n{n}", 8 * n * features
        ids, table, dy = torch.randint(vocab, (n,)), torch.randn(vocab, features), torch.randn(n, features)
        dense = torch.ops.aten.embedding_dense_backward
        row("embedding_fwd", size, lambda: F.embedding(ids, table), amount, "GB/s")
        row("embedding_bwd", size, lambda: dense(dy, ids, vocab, -1, False), amount, "GB/s")

    for n in [65536, 1 << 20, 1 << 25]:
        x = torch.randn(n)
        row("dropout", str(n), lambda: F.dropout(x, 0.1), 8 * n, "GB/s")

    # PyTorch keeps the moments of a bf16 parameter in bf16 too, and has no exact values beside it.
    for n in [65536, 2_359_296, 1 << 25]:
        x = torch.randn(n)
        row("bf16_from_f32", str(n), lambda: x.bfloat16(), 6 * n, "GB/s")
        param = torch.randn(n).bfloat16().requires_grad_()
        param.grad = torch.randn(n).bfloat16()
        for name in ["adamw_bf16_copy", "adamw_bf16_split"]:
            row(name, str(n), torch.optim.AdamW([param], lr=1e-3, fused=True).step, n, "Gparam/s")
    for m, n, k in [(256, 256, 256), (512, 512, 512), (1024, 1024, 1024), (1, 512, 512)]:
        x, y, out = torch.randn(m, k), torch.randn(k, n), torch.empty(m, n)
        row("matmul", f"{m}x{n}x{k}", lambda: torch.mm(x, y, out=out), 2 * m * n * k, "Gflop/s")
    for m, n, k in [(2048, 512, 128), (2048, 384, 128)]:
        x, w, b = torch.randn(m, k), torch.randn(n, k), torch.randn(n)
        row("linear", f"{m}x{n}x{k}", lambda: F.linear(x, w, b), 2 * m * n * k, "Gflop/s")
        row("linear_gelu", f"{m}x{n}x{k}", lambda: F.gelu(F.linear(x, w, b), approximate="tanh"), 2 * m * n * k, "Gflop/s")
    for m, n, k in [(128, 512, 2048)]:
        dy, x, out = torch.randn(k, m), torch.randn(k, n), torch.empty(m, n)
        row("linear_weight_grad", f"{m}x{n}x{k}", lambda: torch.mm(dy.T, x, out=out), 2 * m * n * k, "Gflop/s")


if __name__ == "__main__":
    main()
