"""Training of small perceptrons with PyTorch and scikit-learn, beside `hotlanes bench mlp` in the same run.

    pip install torch numpy scikit-learn
    taskset -c 0 python3 benches/peers/mlp.py --hotlanes target/release/hotlanes

Rows are those that `hotlanes train mlp` draws by their function (their random numbers differ): standardised, a tenth
each for validation and test. The recipe is ours: batches of 256, AdamW (fused), two epochs of warm-up and a cosine over
200, stopped after 20 epochs without a better validation loss. scikit-learn has its own early stop and no AdamW: Adam,
and the learning rate that served it best of three.
"""

import argparse
import json
import math
import subprocess
import sys
import time

import numpy as np
import torch
from torch import nn

WIDTHS = [5, 64, 64, 64, 1]
EPOCHS, PATIENCE, BATCH, WARMUP, LR = 200, 20, 256, 2, 0.01


def draw(rows, seed=1):
    rng = np.random.default_rng(seed)
    x = rng.random((rows, 5))
    u = x[:, 0] * x[:, 1]
    w = u * (1 - u)
    y = 10 * 16 * w / (5 - 4 * w) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
    y += 0.1 * rng.standard_normal(rows)
    order = rng.permutation(rows)
    tenth = rows // 10
    test, validation, train = order[:tenth], order[tenth : 2 * tenth], order[2 * tenth :]
    x = (x - x[train].mean(0)) / x[train].std(0)
    y = (y - y[train].mean()) / y[train].std()
    return [(x[part].astype(np.float32), y[part].astype(np.float32)) for part in (train, validation, test)]


def model():
    torch.manual_seed(1)
    layers = []
    for i, (a, b) in enumerate(zip(WIDTHS, WIDTHS[1:])):
        layers += [nn.Linear(a, b)] + ([nn.SiLU()] if i + 2 < len(WIDTHS) else [])
    return nn.Sequential(*layers)


def step(net, optimizer, x, y):
    loss = nn.functional.mse_loss(net(x).squeeze(1), y)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss


def samples_per_second(batch, seconds=3.0):
    """The fastest of windows of some steps, rows already in place."""
    net = model()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True)
    x, y = torch.randn(batch, 5), torch.randn(batch)
    best, started = 0.0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        begun = time.perf_counter()
        for _ in range(20):
            step(net, optimizer, x, y)
        best = max(best, 20 * batch / (time.perf_counter() - begun))
    return best


def r2(prediction, y):
    return 1 - float(((prediction - y) ** 2).sum() / ((y - y.mean()) ** 2).sum())


def rate(t, per_epoch):
    warmup, end = WARMUP * per_epoch, EPOCHS * per_epoch
    if t < warmup:
        return LR * (t + 1) / (warmup + 1)
    return LR * 0.5 * (1 + math.cos(math.pi * (t - warmup) / (end - warmup)))


def fit_torch(rows):
    (xt, yt), (xv, yv), (xs, ys) = [tuple(map(torch.from_numpy, part)) for part in draw(rows)]
    begun = time.perf_counter()
    net = model()
    optimizer = torch.optim.AdamW(net.parameters(), lr=LR, fused=True)
    per_epoch = -(-len(xt) // BATCH)
    best, since, t, state = math.inf, 0, 0, None
    for epoch in range(EPOCHS):
        order = torch.randperm(len(xt))
        for first in range(0, len(xt), BATCH):
            rows_ = order[first : first + BATCH]
            optimizer.param_groups[0]["lr"] = rate(t, per_epoch)
            step(net, optimizer, xt[rows_], yt[rows_])
            t += 1
        with torch.no_grad():
            loss = float(nn.functional.mse_loss(net(xv).squeeze(1), yv))
        if loss < best:
            best, since, state = loss, 0, {k: v.clone() for k, v in net.state_dict().items()}
        else:
            since += 1
            if since == PATIENCE:
                break
    net.load_state_dict(state)
    with torch.no_grad():
        scores = [r2(net(x).squeeze(1), y) for x, y in ((xv, yv), (xs, ys))]
    return dict(seconds=time.perf_counter() - begun, epochs=epoch + 1, validation_r2=scores[0], test_r2=scores[1])


def fit_sklearn(rows):
    from sklearn.neural_network import MLPRegressor

    (xt, yt), (xv, yv), (xs, ys) = draw(rows)
    best = None
    for lr in (0.001, 0.003, 0.01):
        # It sets its own validation rows aside, from those for training.
        net = MLPRegressor(
            hidden_layer_sizes=tuple(WIDTHS[1:-1]), activation="relu", batch_size=BATCH, learning_rate_init=lr,
            max_iter=EPOCHS, early_stopping=True, n_iter_no_change=PATIENCE, tol=0, random_state=1,
        )
        begun = time.perf_counter()
        net.fit(xt, yt)
        result = dict(
            seconds=time.perf_counter() - begun, epochs=net.n_iter_, lr=lr,
            validation_r2=r2(net.predict(xv), yv), test_r2=r2(net.predict(xs), ys),
        )
        if best is None or result["validation_r2"] > best["validation_r2"]:
            best = result
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hotlanes", help="the program, to be timed in the same run")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-sklearn", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    ours = {}
    if args.hotlanes:
        command = [args.hotlanes, "bench", "mlp", "--json", "--threads", str(args.threads)]
        ours = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(f"PyTorch {torch.__version__}, {args.threads} threads; hotlanes: {'in this run' if ours else 'not run'}")
    print("samples/s of a step, 5-64-64-64-1, SiLU, MSE, AdamW:")
    which = "one" if args.threads == 1 else "all"
    for batch in (32, 64, 128, 256, 512, 1024, 2048, 4096):
        theirs = samples_per_second(batch)
        rates = [s[which] for s in ours.get("speeds", []) if s["batch"] == batch and s["width"] == 64]
        beside = f"  hotlanes {rates[0]:12.0f}  {rates[0] / theirs:5.2f}x" if rates else ""
        print(f"  batch {batch:5}  PyTorch {theirs:12.0f}{beside}")
    print("to the early stop:")
    for rows in (1000, 5000, 10000):
        for name, fit in (("PyTorch", fit_torch), ("scikit-learn", fit_sklearn)):
            if name == "scikit-learn" and args.no_sklearn:
                continue
            show(name, rows, fit(rows))
        for result in (f for f in ours.get("fits", []) if f["rows"] == rows):
            show("hotlanes", rows, result)


def show(name, rows, result):
    print(
        f"  {rows:6} rows  {name:12} {result['seconds']:8.3f} s  {result['epochs']:4} epochs  "
        f"R² {result['validation_r2']:.5f} validation, {result['test_r2']:.5f} test"
    )


if __name__ == "__main__":
    sys.exit(main())
