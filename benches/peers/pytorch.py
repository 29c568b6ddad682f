"""Times PyTorch's CPU kernels on the kernels and sizes of `hotlanes report`: one JSON object a line, the report's keys.

    python3 -m venv venv && venv/bin/pip install torch numpy && cargo build --release
    taskset -c 0 venv/bin/python benches/peers/pytorch.py --threads 1

Ratios hold within one run on one machine: take turns with the report (`hotlanes report --json --full`), and compare the
rows of equal kernel and size. Sizes come from `hotlanes report --list-json`; windows and statistics are the report's: the
minimum over many short windows, and the median. What PyTorch lacks is named on the error stream.
"""

import argparse
import json
import subprocess
import sys
import time

import torch
import torch.nn.functional as F

aten = torch.ops.aten


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


def parameters(*sizes, dtype=torch.float32):
    """Parameters with gradients."""
    params = [torch.randn(size).to(dtype).requires_grad_() for size in sizes]
    for p in params:
        p.grad = torch.randn_like(p)
    return params


def adamw(*sizes, dtype=torch.float32):
    return torch.optim.AdamW(parameters(*sizes, dtype=dtype), lr=1e-3, fused=True)


def clip_adamw(*sizes):
    optimizer = adamw(*sizes)
    params = optimizer.param_groups[0]["params"]

    def step():
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()

    return step


def lion(n):
    """Not in PyTorch: its formula in PyTorch's operations."""
    p, g, m = torch.randn(n), torch.randn(n), torch.randn(n)

    def step():
        p.mul_(1 - 1e-4 * 0.1)
        p.add_(m.clone().mul_(0.9).add_(g, alpha=0.1).sign_(), alpha=-1e-4)
        m.mul_(0.99).add_(g, alpha=0.01)

    return step


def layernorm(rows, features, backward):
    x, dy, w, b = torch.randn(rows, features), torch.randn(rows, features), torch.ones(features), torch.zeros(features)
    if not backward:
        return lambda: F.layer_norm(x, (features,), w, b)
    _, mean, rstd = torch.native_layer_norm(x, (features,), w, b, 1e-5)
    return lambda: aten.native_layer_norm_backward(dy, x, (features,), mean, rstd, w, b, [True] * 3)


def rmsnorm(rows, features, backward):
    """No native backward on the CPU: autograd's of its steps, whose graph is kept."""
    x, dy = torch.randn(rows, features, requires_grad=backward), torch.randn(rows, features)
    w = torch.ones(features, requires_grad=backward)
    if not backward:
        return lambda: F.rms_norm(x, (features,), w, 1e-5)
    with torch.enable_grad():
        y = F.rms_norm(x, (features,), w, 1e-5)
    return lambda: torch.autograd.grad(y, (x, w), dy, retain_graph=True)


def cross_entropy(rows, classes):
    logits, labels = torch.randn(rows, classes, requires_grad=True), torch.randint(0, classes, (rows,))

    def both():
        with torch.enable_grad():
            logits.grad = None
            F.cross_entropy(logits, labels).backward()

    return both


def loss(f, backward=True):
    """A mean loss of predictions with targets from 0 to 1; with its gradient unless told otherwise."""

    def build(n):
        x, target = torch.randn(n, requires_grad=backward), torch.rand(n)

        def both():
            with torch.enable_grad():
                x.grad = None
                f(x, target).backward()

        return both if backward else lambda: f(x, target)

    return build


def softmax_bwd(rows, features):
    y, dy = torch.softmax(torch.randn(rows, features), -1), torch.randn(rows, features)
    return lambda: aten._softmax_backward_data(dy, y, -1, torch.float32)


def attention(batch, heads, seq, dim, backward):
    q, k, v, dout = (torch.randn(batch, heads, seq, dim) for _ in range(4))
    if not backward:
        return lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True)
    out, lse = aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, True)
    f = aten._scaled_dot_product_flash_attention_for_cpu_backward
    return lambda: f(dout, q, k, v, out, lse, 0.0, True)


def sparse(outputs, inputs, percent, batch):
    w = ((torch.rand(outputs, inputs) < percent / 100).float() * torch.randn(outputs, inputs)).to_sparse_csr()
    x = torch.randn(inputs, batch)
    return lambda: w @ x


def elementwise(f, inputs=1):
    """A function of `inputs` tensors."""

    def build(n):
        x = [torch.rand(n) * 2 - 1 for _ in range(inputs)]
        return lambda: f(*x)

    return build


def aggregate(n, k):
    buffers, dst = torch.randn(k, n), torch.empty(n)
    return lambda: torch.sum(buffers, 0, out=dst).mul_(1 / k)


def embedding(n, vocab, features, backward):
    ids, table, dy = torch.randint(vocab, (n,)), torch.randn(vocab, features), torch.randn(n, features)
    if backward:
        return lambda: aten.embedding_dense_backward(dy, ids, vocab, -1, False)
    return lambda: F.embedding(ids, table)


def matmul(m, n, k):
    x, y, out = torch.randn(m, k), torch.randn(k, n), torch.empty(m, n)
    return lambda: torch.mm(x, y, out=out)


def weight_grad(m, n, k):
    dy, x, out = torch.randn(k, m), torch.randn(k, n), torch.empty(m, n)
    return lambda: torch.mm(dy.T, x, out=out)


def linear(m, n, k, gelu):
    x, w, b = torch.randn(m, k), torch.randn(n, k), torch.randn(n)
    if gelu:
        return lambda: F.gelu(F.linear(x, w, b), approximate="tanh")
    return lambda: F.linear(x, w, b)


def optimizer(cls, *size, **options):
    return cls(parameters(size), **options).step


# By the report's kernel: makes its call from the numbers of the size.
KERNELS = {
    "adamw": lambda n: adamw(n).step,
    "adamw_bf16_copy": lambda n: adamw(n, dtype=torch.bfloat16).step,
    "adamw_bf16_split": lambda n: adamw(n, dtype=torch.bfloat16).step,
    "clip_adamw": clip_adamw,
    "sgd_momentum": lambda n: optimizer(torch.optim.SGD, n, lr=1e-4, momentum=0.9, fused=True),
    "lion": lion,
    "adafactor": lambda r, c: optimizer(torch.optim.Adafactor, r, c, foreach=True),
    "muon": lambda r, c: optimizer(torch.optim.Muon, r, c, lr=1e-3),
    "layernorm_fwd": lambda r, f: layernorm(r, f, False),
    "layernorm_bwd": lambda r, f: layernorm(r, f, True),
    "rmsnorm_fwd": lambda r, f: rmsnorm(r, f, False),
    "rmsnorm_bwd": lambda r, f: rmsnorm(r, f, True),
    "gelu_tanh_fwd": elementwise(lambda x: F.gelu(x, approximate="tanh")),
    "gelu_tanh_bwd": elementwise(lambda dy, x: aten.gelu_backward(dy, x, approximate="tanh"), 2),
    "gelu_erf_fwd": elementwise(F.gelu),
    "gelu_erf_bwd": elementwise(aten.gelu_backward, 2),
    "silu_fwd": elementwise(F.silu),
    "silu_bwd": elementwise(aten.silu_backward, 2),
    "relu_fwd": elementwise(F.relu),
    "sigmoid_fwd": elementwise(torch.sigmoid),
    "tanh_fwd": elementwise(torch.tanh),
    "exp": elementwise(torch.exp),
    "softmax_fwd": lambda r, f: (lambda x: lambda: torch.softmax(x, -1))(torch.randn(r, f)),
    "log_softmax_fwd": lambda r, f: (lambda x: lambda: torch.log_softmax(x, -1))(torch.randn(r, f)),
    "softmax_bwd": softmax_bwd,
    "cross_entropy": cross_entropy,
    "mse": loss(F.mse_loss),
    "mse_fwd": loss(F.mse_loss, False),
    "l1": loss(F.l1_loss),
    "l1_fwd": loss(F.l1_loss, False),
    "huber": loss(F.huber_loss),
    "huber_fwd": loss(F.huber_loss, False),
    "bce_with_logits": loss(F.binary_cross_entropy_with_logits),
    "bce_with_logits_fwd": loss(F.binary_cross_entropy_with_logits, False),
    "attention_fwd": lambda b, h, kv, q, k, d: attention(b, h, q, d, False),
    "attention_bwd": lambda b, h, kv, q, k, d: attention(b, h, q, d, True),
    "sparse_matvec": sparse,
    "sparse_matmul": sparse,
    "sum": elementwise(torch.sum),
    "dot": elementwise(torch.dot, 2),
    "norm": elementwise(torch.norm),
    "mean_var": elementwise(lambda x: torch.var_mean(x, unbiased=False)),
    "max": elementwise(torch.max),
    "aggregate": aggregate,
    "column_sums": lambda r, c: (lambda x, out: lambda: torch.sum(x, 0, out=out))(torch.randn(r, c), torch.empty(c)),
    "add_scaled": elementwise(lambda x, y: y.add_(x, alpha=0.1), 2),
    "lerp": elementwise(lambda x, y: y.lerp_(x, 0.1), 2),
    # By signs, or `y` becomes subnormal.
    "multiply": lambda n: (lambda x, y: lambda: y.mul_(x))(torch.randn(n).sign(), torch.randn(n)),
    "embedding_fwd": lambda n, v, f: embedding(n, v, f, False),
    "embedding_bwd": lambda n, v, f: embedding(n, v, f, True),
    "dropout": elementwise(lambda x: F.dropout(x, 0.1)),
    "bf16_from_f32": elementwise(lambda x: x.bfloat16()),
    "matmul": matmul,
    "linear": lambda m, n, k: linear(m, n, k, False),
    "linear_gelu": lambda m, n, k: linear(m, n, k, True),
    "linear_weight_grad": weight_grad,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--budget", type=float, default=0.5, help="seconds for each row")
    parser.add_argument("--only", default="", help="part of a kernel's name")
    parser.add_argument("--full", action="store_true", help="all sizes, as the report's --full")
    parser.add_argument("--hotlanes", default="target/release/hotlanes", help="the program that lists the sizes")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    listing = [args.hotlanes, "report", "--list-json"] + ["--full"] * args.full
    rows = [json.loads(line) for line in subprocess.run(listing, check=True, capture_output=True, text=True).stdout.splitlines()]
    missing = set()
    for row in rows:
        kernel, size = row["kernel"], row["size"]
        if args.only not in kernel:
            continue
        if kernel not in KERNELS:
            missing.add(kernel)
            continue
        f = KERNELS[kernel](*row["numbers"])
        with torch.no_grad():
            seconds, median = measure(f, args.budget)
        print(json.dumps({"kernel": kernel, "size": size, "tier": "torch " + torch.__version__, "threads": args.threads,
                          "seconds": seconds, "median": median, "throughput": row["items"] / seconds / 1e9,
                          "unit": row["unit"]}), flush=True)
    if missing:
        print("not timed, as PyTorch has no such kernel here:", ", ".join(sorted(missing)), file=sys.stderr)


if __name__ == "__main__":
    main()
