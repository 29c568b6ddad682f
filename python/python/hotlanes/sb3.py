"""A replay buffer for stable-baselines3: ``DQN(..., replay_buffer_class=hotlanes.sb3.ReplayBuffer)``."""

from __future__ import annotations

import os
import tempfile

import numpy as np
from stable_baselines3.common.buffers import ReplayBuffer as _Sb3
from stable_baselines3.common.buffers import BaseBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples

from ._hotlanes import ReplayBuffer as _Native

__all__ = ["ReplayBuffer"]


def _stored(dtype: np.dtype) -> tuple[str, np.dtype]:
    """The column's dtype for a space's, and NumPy's of what is stored."""
    dtype = np.dtype(dtype)
    if dtype in (np.dtype(np.uint8), np.dtype(np.int8), np.dtype(np.bool_)):
        return "u8", np.dtype(np.uint8)
    if dtype.kind in "iu":
        return "i32", np.dtype(np.int32)
    if dtype.kind == "f":
        return "f32", np.dtype(np.float32)
    raise ValueError(f"a space of {dtype} cannot be stored: expected floats, integers or bool")


class ReplayBuffer(_Sb3):
    """stable-baselines3's ``ReplayBuffer`` with hotlanes' memory: the same constructor, ``add`` and ``sample``.

    Draws depend on ``seed`` alone; without, it is drawn from ``np.random``, which ``set_random_seed`` seeds. A pickled
    buffer (``save_replay_buffer``) holds the files of a saved one. Float64 is stored as float32, 64-bit integers as
    32-bit ones (refused where they do not fit); samples have the spaces' dtypes but for float64.
    """

    def __init__(
        self,
        buffer_size,
        observation_space,
        action_space,
        device="auto",
        n_envs=1,
        optimize_memory_usage=False,
        handle_timeout_termination=True,
        seed=None,
    ):
        # Not that of SB3's buffer, which allocates.
        BaseBuffer.__init__(self, buffer_size, observation_space, action_space, device, n_envs=n_envs)
        if optimize_memory_usage:
            raise ValueError("optimize_memory_usage: must be False, the next observations are stored")
        if isinstance(self.obs_shape, dict):
            raise ValueError("observation_space: must not be a Dict")
        # Steps, as SB3 counts them.
        self.buffer_size = max(buffer_size // n_envs, 1)
        self.optimize_memory_usage = False
        self.handle_timeout_termination = handle_timeout_termination
        self.seed = int(np.random.randint(1 << 31)) if seed is None else seed
        obs, self._obs_kept = _stored(observation_space.dtype)
        action, self._action_kept = _stored(action_space.dtype)
        self._obs_dtype = _Sb3._maybe_cast_dtype(observation_space.dtype)
        self._action_dtype = _Sb3._maybe_cast_dtype(action_space.dtype)
        self._columns = {
            "obs": (obs, self.obs_shape),
            "next_obs": (obs, self.obs_shape),
            "action": (action, (self.action_dim,)),
            "reward": ("f32", ()),
            "done": ("f32", ()),
            "timeout": ("f32", ()),
        }
        self.reset()

    def reset(self) -> None:
        BaseBuffer.reset(self)
        self._buffer = _Native(
            self._columns,
            self.buffer_size * self.n_envs,
            episodes=False,
            eviction="record",
            seed=self.seed,
        )

    def size(self) -> int:
        return len(self._buffer) // self.n_envs

    @staticmethod
    def _kept(name, value, dtype, shape):
        value = np.asarray(value).reshape(shape)
        kept = np.ascontiguousarray(value, dtype=dtype)
        if dtype == np.int32 and not np.array_equal(kept, value):
            raise ValueError(f"{name}: does not fit into int32")
        return kept

    def add(self, obs, next_obs, action, reward, done, infos) -> None:
        n = self.n_envs
        timeout = np.zeros(n, np.float32)
        if self.handle_timeout_termination:
            timeout[:] = [info.get("TimeLimit.truncated", False) for info in infos]
        shape = (n, *self.obs_shape)
        self._buffer.add_batch(
            {
                "obs": self._kept("obs", obs, self._obs_kept, shape),
                "next_obs": self._kept("next_obs", next_obs, self._obs_kept, shape),
                "action": self._kept("action", action, self._action_kept, (n, self.action_dim)),
                "reward": self._kept("reward", reward, np.float32, (n,)),
                "done": self._kept("done", done, np.float32, (n,)),
                "timeout": timeout,
            }
        )
        self.pos += 1
        if self.pos == self.buffer_size:
            self.full = True
            self.pos = 0

    def sample(self, batch_size, env=None) -> ReplayBufferSamples:
        batch = self._buffer.sample(batch_size)
        data = (
            self._normalize_obs(batch["obs"].astype(self._obs_dtype, copy=False), env),
            batch["action"].astype(self._action_dtype, copy=False),
            self._normalize_obs(batch["next_obs"].astype(self._obs_dtype, copy=False), env),
            (batch["done"] * (1 - batch["timeout"])).reshape(-1, 1),
            self._normalize_reward(batch["reward"].reshape(-1, 1), env),
        )
        return ReplayBufferSamples(*(self.to_torch(array, copy=False) for array in data))

    def _get_samples(self, batch_inds, env=None):
        raise NotImplementedError("draws are made by sample()")

    def __getstate__(self):
        state = self.__dict__.copy()
        buffer = state.pop("_buffer")
        state["_files"] = {}
        with tempfile.TemporaryDirectory() as directory:
            buffer.save(directory)
            buffer.close()
            for name in os.listdir(directory):
                with open(os.path.join(directory, name), "rb") as file:
                    state["_files"][name] = file.read()
        return state

    def __setstate__(self, state):
        state = dict(state)
        files = state.pop("_files")
        self.__dict__.update(state)
        with tempfile.TemporaryDirectory() as directory:
            for name, content in files.items():
                with open(os.path.join(directory, name), "wb") as file:
                    file.write(content)
            self._buffer = _Native.load(directory)
            self._buffer.close()
