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


def filled(n_envs=1, steps=30):
    from gymnasium import spaces
    from hotlanes.sb3 import ReplayBuffer

    space = spaces.Box(-np.inf, np.inf, (4,), np.float32)
    buffer = ReplayBuffer(100, space, spaces.Discrete(3), device="cpu", n_envs=n_envs, seed=7)
    for i in range(steps):
        obs = np.full((n_envs, 4), i, np.float32)
        infos = [{"TimeLimit.truncated": i % 4 == 0}] * n_envs
        done = np.full(n_envs, i % 2 == 0)
        buffer.add(obs, obs + 1, np.full(n_envs, i % 3), np.full(n_envs, i), done, infos)
    return buffer


def test_dones_are_those_that_no_time_limit_made():
    batch = filled().sample(100)
    at = batch.rewards.numpy().astype(int)
    assert np.array_equal(batch.dones.numpy(), ((at % 2 == 0) & (at % 4 != 0)).astype(np.float32))
    assert np.array_equal(batch.actions.numpy(), at % 3)


def test_a_pickled_buffer_goes_on_the_same():
    import pickle

    buffer = filled()
    other = pickle.loads(pickle.dumps(buffer))
    assert other.size() == buffer.size() == 30 and other.pos == 30
    for a, b in zip(buffer.sample(20), other.sample(20)):
        assert a is None or np.array_equal(a, b)


def test_observations_are_normalised_as_sb3_does():
    import gymnasium
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    env = VecNormalize(DummyVecEnv([lambda: gymnasium.make("CartPole-v1")]))
    env.obs_rms.mean[:], env.obs_rms.var[:] = 10.0, 4.0
    batch = filled().sample(50, env)
    plain = filled().sample(50)
    want = np.clip((plain.observations.numpy() - 10.0) / np.sqrt(4.0 + env.epsilon), -10, 10)
    assert np.allclose(batch.observations.numpy(), want, atol=1e-5)
