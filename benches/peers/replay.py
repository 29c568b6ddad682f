"""The replay buffer from Python against others: medians, and ratios to hotlanes (above 1: it is slower).

Each buffer has a process of its own, since what one leaves in the allocator makes the next one's new arrays cheap.

    pip install ./python stable-baselines3 torchrl cpprb && python benches/peers/replay.py
"""

import multiprocessing
import statistics
import time

import numpy as np

import hotlanes

BATCH = 256


def median(call, repeats):
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def ours(obs, capacity):
    kind = "u8" if obs.dtype == np.uint8 else "f32"
    columns = {"obs": (kind, obs.shape), "next_obs": (kind, obs.shape), "act": ("i32", ()), "rew": ("f32", ())}
    buffer = hotlanes.ReplayBuffer({**columns, "done": ("f32", ())}, capacity, episodes=False)
    return lambda x: buffer.add(obs=x, next_obs=x, act=1, rew=1.0, done=0.0), lambda n: buffer.sample(n)["obs"]


def sb3(obs, capacity):
    from gymnasium import spaces
    from stable_baselines3.common.buffers import ReplayBuffer

    space = spaces.Box(0, 255, obs.shape, obs.dtype)
    buffer = ReplayBuffer(capacity, space, spaces.Discrete(2), device="cpu")
    rest = (np.array([1]), np.array([1.0]), np.array([False]), [{}])
    return lambda x: buffer.add(x, x, *rest), lambda n: buffer.sample(n).observations.numpy()


def torchrl(obs, capacity):
    import torch
    from tensordict import TensorDict
    from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer

    buffer = TensorDictReplayBuffer(storage=LazyTensorStorage(capacity), batch_size=BATCH)
    number = torch.tensor(1.0)

    def add(obs):
        x = torch.from_numpy(obs)
        buffer.add(TensorDict({"obs": x, "next_obs": x, "act": torch.tensor(1), "rew": number, "done": number}))

    return add, lambda n: buffer.sample(n)["obs"].numpy()


def cpprb(obs, capacity):
    from cpprb import ReplayBuffer

    of = {"shape": obs.shape, "dtype": obs.dtype}
    buffer = ReplayBuffer(capacity, {"obs": of, "next_obs": of, "act": {"dtype": np.int32}, "rew": {}, "done": {}})
    return lambda x: buffer.add(obs=x, next_obs=x, act=1, rew=1.0, done=0.0), lambda n: buffer.sample(n)["obs"]


def record(obs, i):
    """Record `i`: its number in front, then what follows from it."""
    obs = np.random.default_rng(i).integers(0, 256, obs.shape).astype(obs.dtype)
    obs.flat[:2] = i % 256, i // 256
    return obs


def one_peer(peer, obs, capacity, results):
    add, sample = peer(obs, capacity)
    records = [record(obs, i) for i in range(capacity)]
    for x in records:
        add(x)
    got = sample(BATCH)
    drawn = [int(x.flat[0]) + 256 * int(x.flat[1]) for x in got]
    assert len(set(drawn)) > BATCH // 2, "draws repeat too often"
    assert got.shape == (BATCH, *obs.shape) and np.array_equal(got, [records[i] for i in drawn]), peer.__name__
    results.put((median(lambda: add(obs), 300), median(lambda: sample(BATCH), 100)))


def table(name, obs, capacity):
    first = None
    for peer in (ours, sb3, torchrl, cpprb):
        processes = multiprocessing.get_context("spawn")
        results = processes.SimpleQueue()
        process = processes.Process(target=one_peer, args=(peer, obs, capacity, results))
        process.start()
        process.join()
        assert process.exitcode == 0, peer.__name__
        times = results.get()
        first = first or times
        ratios = " | ".join(f"{t * 1e6:.1f} us | {t / f:.2f}" for t, f in zip(times, first))
        print(f"| {name} | {peer.__name__} | {ratios} |", flush=True)


def prioritised(entries):
    from cpprb import PrioritizedReplayBuffer

    x, values = np.zeros((entries, 4), np.float32), np.random.default_rng(1).random(entries, np.float32) + 0.01
    buffer = hotlanes.ReplayBuffer({"obs": ("f32", (4,))}, entries, episodes=False, priorities=0.6)
    buffer.update_priorities(buffer.add_batch({"obs": x}), values)
    peer = PrioritizedReplayBuffer(entries, {"obs": {"shape": 4}}, alpha=0.6)
    peer.add(obs=x, priorities=values)

    def of_ours():
        batch = buffer.sample(BATCH, "prioritised")
        buffer.update_priorities(batch["ids"], values[:BATCH])

    def of_peer():
        batch = peer.sample(BATCH, beta=0.4)
        peer.update_priorities(batch["indexes"], values[:BATCH])

    batch = buffer.sample(BATCH, "prioritised")
    assert batch["ids"].max() < entries and len(np.unique(batch["ids"])) > BATCH // 2 and np.all(batch["weights"] <= 1)
    one, two = median(of_ours, 200), median(of_peer, 200)
    print(f"| prioritised, {entries} | hotlanes | {one * 1e6:.1f} us | 1 |")
    print(f"| prioritised, {entries} | cpprb | {two * 1e6:.1f} us | {two / one:.2f} |", flush=True)


def large():
    x = np.random.default_rng(1).integers(0, 256, (64, 49_924), np.uint8)
    buffer = hotlanes.ReplayBuffer({"x": ("u8", (49_924,))}, 1024, episodes=False)
    for _ in range(20):
        buffer.add_batch({"x": x})
    drawn = buffer.sample(64)
    assert np.array_equal(drawn["x"], x[drawn["ids"] % 64])
    there = np.empty_like(x)
    one, two = median(lambda: buffer.add_batch({"x": x}), 50), median(lambda: np.copyto(there, x), 50)
    print(f"| add_batch of 49,924 bytes | hotlanes | {x.nbytes / one / 1e9:.2f} GB/s | copyto {two / one:.2f} |")


if __name__ == "__main__":
    print("| records | buffer | add | ratio | sample 256 | ratio |\n|---|---|---|---|---|---|")
    table("CartPole", np.ones(4, np.float32), 1000)
    table("Atari", np.ones((4, 84, 84), np.uint8), 1000)
    prioritised(1_000_000)
    large()
