"""stable-baselines3's contract; skipped, and said so, where it is not installed."""

import numpy as np
import pytest

pytest.importorskip("stable_baselines3", reason="NOT run: stable-baselines3 is not installed")
pytestmark = pytest.mark.sb3


def test_samples_are_sb3s():
    from gymnasium import spaces
    from hotlanes.sb3 import ReplayBuffer

    space = spaces.Box(-np.inf, np.inf, (4,), np.float32)
    buffer = ReplayBuffer(100, space, spaces.Discrete(3), device="cpu", n_envs=2)
    for i in range(70):
        obs = np.full((2, 4), i, np.float32)
        infos = [{"TimeLimit.truncated": i % 2 == 0}, {}]
        buffer.add(obs, obs + 1, np.array([i % 3, 0]), np.full(2, i), np.array([True, True]), infos)
    assert buffer.size() == 50 and buffer.full
    batch = buffer.sample(64)
    assert batch.observations.shape == (64, 4) and batch.actions.shape == (64, 1)
    assert str(batch.actions.dtype) == "torch.int64" and batch.dones.shape == (64, 1)
    assert bool((batch.next_observations == batch.observations + 1).all())
    assert batch.rewards.min() >= 20 and set(batch.dones.flatten().tolist()) == {0.0, 1.0}
