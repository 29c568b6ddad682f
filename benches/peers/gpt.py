"""Times PyTorch's training step of the model that `hotlanes bench gpt` times: one JSON object a line.

    python3 -m venv venv && venv/bin/pip install torch numpy
    taskset -c 0 venv/bin/python benches/peers/gpt.py --threads 1
    taskset -c 0 target/release/hotlanes bench gpt --threads 1 --json

A ratio holds within one run on one machine: take turns, a few seconds each, and compare the fastest steps. `name`, `threads`,
`seconds`, `median` and `tokens_per_second` are those of the bench's `speeds`. The step is autograd's on fused operators: scaled
dot-product attention, fused AdamW; without gradients clipped, which the bench does besides. Subnormal numbers are flushed to zero
unless --subnormals keeps them, as PyTorch does by itself: a large model soon knows the batch by heart, and its probabilities of all
other tokens are then so small that an x86 CPU takes several times as long.
"""

import argparse
import json
import time

import torch
import torch.nn.functional as F


class Block(torch.nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = torch.nn.LayerNorm(dim), torch.nn.LayerNorm(dim)
        self.qkv, self.proj = torch.nn.Linear(dim, 3 * dim), torch.nn.Linear(dim, dim)
        self.fc, self.fc_proj = torch.nn.Linear(dim, 4 * dim), torch.nn.Linear(4 * dim, dim)

    def forward(self, x):
        batch, time, dim = x.shape
        q, k, v = (t.view(batch, time, self.heads, -1).transpose(1, 2) for t in self.qkv(self.ln_1(x)).split(dim, 2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(x.shape)
        x = x + self.proj(y)
        return x + self.fc_proj(F.gelu(self.fc(self.ln_2(x)), approximate="tanh"))


class Gpt(torch.nn.Module):
    def __init__(self, vocab, time, layers, heads, dim, tied):
        super().__init__()
        self.tokens, self.places = torch.nn.Embedding(vocab, dim), torch.nn.Embedding(time, dim)
        self.blocks = torch.nn.ModuleList(Block(dim, heads) for _ in range(layers))
        self.norm, self.head = torch.nn.LayerNorm(dim), torch.nn.Linear(dim, vocab, bias=False)
        if tied:
            self.head.weight = self.tokens.weight

    def forward(self, tokens, targets):
        x = self.tokens(tokens) + self.places(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1), targets.flatten())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    for name, value in [("batch", 32), ("time", 64), ("layers", 4), ("heads", 8), ("dim", 128), ("vocab", 65)]:
        parser.add_argument("--" + name, type=int, default=value)
    parser.add_argument("--tied", action="store_true", help="share the head's weights with the token embedding")
    parser.add_argument("--subnormals", action="store_true", help="keep subnormal numbers")
    parser.add_argument("--seconds", type=float, default=10)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(not args.subnormals)
    torch.manual_seed(0)

    model = Gpt(args.vocab, args.time, args.layers, args.heads, args.dim, args.tied)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    tokens, targets = (torch.randint(args.vocab, (args.batch, args.time)) for _ in range(2))

    def step():
        optimizer.zero_grad()
        model(tokens, targets).backward()
        optimizer.step()

    step()
    step()
    seconds, end = [], time.perf_counter() + args.seconds
    while len(seconds) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    seconds.sort()
    print(json.dumps({"name": "step", "peer": "torch " + torch.__version__, "batch": args.batch, "time": args.time,
                      "threads": args.threads, "parameters": sum(p.numel() for p in model.parameters()),
                      "seconds": seconds[0], "median": seconds[len(seconds) // 2],
                      "tokens_per_second": args.batch * args.time / seconds[0]}))


if __name__ == "__main__":
    main()
