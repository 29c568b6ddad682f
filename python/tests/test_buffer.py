"""The native module: strict input, draws against plain lists, threads, save and load."""

import sys
import threading

import hotlanes
import numpy as np
import pytest

COLUMNS = {"obs": ("f32", (4,)), "action": ("i32", ()), "reward": ("f32", ())}


def records(n, start=0):
    at = np.arange(start, start + n)
    return {
        "obs": np.repeat(at.astype(np.float32)[:, None], 4, 1),
        "action": at.astype(np.int32),
        "reward": at.astype(np.float32),
    }


def test_errors_name_column_expected_and_given():
    buffer = hotlanes.ReplayBuffer(COLUMNS, 100)
    data = records(3)
    cases = [
        (TypeError, "obs", data["obs"].astype(np.float64), "column obs: expected float32 .* given float64"),
        (ValueError, "obs", data["obs"][:, :3].copy(), r"\(3, 4\), given float32 of shape \(3, 3\)"),
        (ValueError, "obs", np.asfortranarray(data["obs"]), "not C-contiguous"),
        (TypeError, "action", [0, 1, 2], "column action: expected int32"),
        (ValueError, "other", data["obs"], "column other: is not in the schema"),
    ]
    for kind, name, value, text in cases:
        with pytest.raises(kind, match=text):
            buffer.add_batch({**data, name: value})
    with pytest.raises(ValueError, match="column reward: is missing"):
        buffer.add(obs=data["obs"][0], action=1)
    assert len(buffer) == 0
    buffer = hotlanes.ReplayBuffer(COLUMNS, 100, allow_copy=True)
    buffer.add_batch({**data, "obs": data["obs"].astype(np.float64), "action": [0, 1, 2]})
    assert len(buffer) == 3


def test_returns_and_next_records():
    buffer = hotlanes.ReplayBuffer(COLUMNS, 1000, seed=3)
    data, steps = records(100), np.zeros(100, np.uint8)
    steps[9::10] = hotlanes.STEP_TERMINATED
    ids = buffer.add_batch(data, steps)
    assert ids.tolist() == list(range(100))
    batch = buffer.sample(500, n_step=3, gamma=0.5)
    for i, at in enumerate(batch["action"]):
        m = min(3, 10 - at % 10)
        assert batch["steps"][i] == m
        assert batch["returns"][i] == sum(0.5**k * (at + k) for k in range(m))
        ends = (at + m) % 10 == 0 and m <= 3 and at % 10 >= 7
        assert batch["discounts"][i] == (0 if ends else 0.5**3)
        assert np.all(batch["next_obs"][i] == (0 if ends else at + 3))


def test_sample_into_fills_the_callers_arrays():
    buffer = hotlanes.ReplayBuffer(COLUMNS, 100)
    buffer.add_batch(records(50))
    out = {"obs": np.empty((8, 4), np.float32), "ids": np.empty(8, np.uint64)}
    result = buffer.sample_into(out, 8)
    assert result["obs"] is out["obs"] and result["ids"] is out["ids"]
    assert np.all(out["obs"][:, 0] == out["ids"])
    with pytest.raises(ValueError):
        buffer.sample_into({"obs": out["obs"][::2]}, 4)


def test_saved_and_loaded_goes_on_the_same(tmp_path):
    buffer = hotlanes.ReplayBuffer(COLUMNS, 100, priorities=0.6, seed=5)
    ids = buffer.add_batch(records(60))
    buffer.update_priorities(ids, np.arange(60, dtype=np.float32))
    buffer.save(tmp_path / "b", b"mine")
    buffer.add_batch(records(5, 60))
    buffer.save(tmp_path / "b", b"mine")
    buffer.close()
    loaded = hotlanes.ReplayBuffer.load(tmp_path / "b")
    assert loaded.extra == b"mine" and loaded.schema == buffer.schema
    assert buffer.add_batch(records(3, 65)).tolist() == loaded.add_batch(records(3, 65)).tolist()
    one, two = (b.sample(32, "prioritised", beta=0.5) for b in (buffer, loaded))
    for name in one:
        assert np.array_equal(one[name], two[name]), name


def test_memory_is_used_again_when_nothing_refers_to_it():
    buffer = hotlanes.ReplayBuffer({"x": ("f32", (1024,)), "y": ("f32", (1024,))}, 512, episodes=False)
    x = np.repeat(np.arange(512, dtype=np.float32)[:, None], 1024, 1)
    buffer.add_batch({"x": x, "y": -x})
    places = set()
    for _ in range(20):
        batch = buffer.sample(256)
        assert np.array_equal(batch["x"], -batch["y"])
        places |= {batch[name].ctypes.data for name in ("x", "y")}
        del batch
    assert len(places) == 2
    # What is still referred to, be it by a view, a buffer, or a tensor, keeps its values.
    held = [buffer.sample(256) for _ in range(12)]
    parts = [buffer.sample(256)["x"][::3].T for _ in range(3)] + [memoryview(buffer.sample(256)["y"])]
    copies = [{k: v.copy() for k, v in batch.items()} for batch in held], [np.array(part) for part in parts]
    for _ in range(20):
        buffer.sample(256)
    for batch, copy in zip(held, copies[0]):
        assert all(np.array_equal(batch[k], copy[k]) for k in batch)
    assert all(np.array_equal(part, copy) for part, copy in zip(parts, copies[1]))
    # Elsewhere written values do not come back.
    batch = buffer.sample(256)
    batch["x"][:] = 7.5
    del batch
    assert not np.any(buffer.sample(256)["x"] == 7.5)


def test_the_gil_is_released():
    buffer = hotlanes.ReplayBuffer({"x": ("u8", (1 << 20,))}, 64, episodes=False)
    data, go, count = np.ones((64, 1 << 20), np.uint8), True, 0

    def counts():
        nonlocal count
        while go:
            count += 1

    # No thread is made to give the GIL away meanwhile: the other one runs only while a call has released it.
    interval = sys.getswitchinterval()
    thread = threading.Thread(target=counts)
    thread.start()
    try:
        for call in (lambda: buffer.add_batch({"x": data}), lambda: buffer.sample(64)):
            sys.setswitchinterval(0.3)
            before = count
            call()
            assert count > before
    finally:
        go = False
        sys.setswitchinterval(interval)
        thread.join()


def test_threads_add_and_sample_whole_records():
    buffer = hotlanes.ReplayBuffer(COLUMNS, 4096)
    buffer.add_batch(records(8))
    faults = []

    def adds(start):
        writer = buffer.writer(1)
        for i in range(200):
            writer.add_batch(records(16, start + 16 * i))

    def samples():
        for _ in range(200):
            batch = buffer.sample(64)
            if not np.all(batch["obs"] == batch["reward"][:, None]) or not np.all(batch["action"] == batch["reward"]):
                faults.append(batch)

    threads = [threading.Thread(target=adds, args=(100_000 * i,)) for i in range(3)]
    threads += [threading.Thread(target=samples) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert len(buffer) > 3000


def test_sequences_and_the_observation_after_a_cut():
    buffer = hotlanes.ReplayBuffer(COLUMNS, 1000, seed=2)
    steps = np.zeros(11, np.uint8)
    steps[9], steps[10] = hotlanes.STEP_TRUNCATED, hotlanes.STEP_FINAL
    buffer.add_batch(records(11), steps)
    runs = buffer.sample(50, sequence=4)
    assert runs["obs"].shape == (50, 4, 4) and np.all(runs["steps"] == 4)
    assert np.all(np.diff(runs["action"], axis=1) == 1) and runs["action"].max() == 9
    padded = buffer.sample(200, sequence=4, pad=True)
    short = padded["action"][padded["steps"] == 1]
    assert len(short) and np.all(short == [9, 0, 0, 0])
    batch = buffer.sample(200, n_step=1, gamma=0.5)
    assert set(batch["discounts"].tolist()) == {0.5} and batch["next_obs"].max() == 10
    with pytest.raises(ValueError, match="must be"):
        buffer.sample(3, sequence=0)


def test_every_dtype_and_codec_comes_back():
    columns = {
        "planes": ("f32", (3, 64), {"codec": "bit_planes", "plane": 64, "constant": 1}),
        "policy": ("f32", (40,), {"codec": "top_k", "k": 5}),
        "frames": ("u8", (4, 6), "frames"),
        "text": ("i32", (9,), "lz4"),
        "half": ("bf16", (2,)),
        "flags": ("bits", (11,)),
    }
    buffer = hotlanes.ReplayBuffer(columns, 64, episodes=False, seed=4)
    rng = np.random.default_rng(1)
    planes = rng.integers(0, 2, (20, 3, 64)).astype(np.float32)
    planes[:, 2] = np.arange(20)[:, None]
    policy = np.zeros((20, 40), np.float32)
    policy[np.arange(20), np.arange(20)] = 0.25
    flags = rng.integers(0, 256, (20, 2), np.uint8)
    flags[:, 1] &= 7
    data = {
        "planes": planes,
        "policy": policy,
        "frames": rng.integers(0, 256, (20, 4, 6), np.uint8),
        "text": rng.integers(-5, 5, (20, 9)).astype(np.int32),
        "half": rng.integers(0, 1 << 15, (20, 2)).astype(np.uint16),
        "flags": flags,
    }
    ids = buffer.add_batch(data)
    batch = buffer.sample(50)
    at = (batch["ids"] - ids[0]).astype(int)
    for name in columns:
        assert batch[name].dtype == data[name].dtype and np.array_equal(batch[name], data[name][at]), name
    with pytest.raises(ValueError, match="column planes"):
        buffer.add_batch({**data, "planes": planes * 2})


def test_torch_reads_without_a_copy():
    torch = pytest.importorskip("torch")
    buffer = hotlanes.ReplayBuffer(COLUMNS, 100)
    buffer.add_batch(records(10))
    obs = buffer.sample(4)["obs"]
    assert np.shares_memory(torch.from_numpy(obs).numpy(), obs)
