"""The native module: strict input, draws against plain lists, threads, save and load."""

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


def test_the_gil_is_released_and_threads_add():
    buffer = hotlanes.ReplayBuffer({"x": ("u8", (1 << 20,))}, 64, episodes=False)
    data, go, count = np.ones((64, 1 << 20), np.uint8), True, 0

    def counts():
        nonlocal count
        while go:
            count += 1

    thread = threading.Thread(target=counts)
    thread.start()
    before = count
    buffer.add_batch({"x": data})
    assert count > before
    go = False
    thread.join()


def test_torch_reads_without_a_copy():
    torch = pytest.importorskip("torch")
    buffer = hotlanes.ReplayBuffer(COLUMNS, 100)
    buffer.add_batch(records(10))
    obs = buffer.sample(4)["obs"]
    assert np.shares_memory(torch.from_numpy(obs).numpy(), obs)
