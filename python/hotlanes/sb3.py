"""A replay buffer for stable-baselines3: ``DQN(..., replay_buffer_class=hotlanes.sb3.ReplayBuffer)``."""

from __future__ import annotations

import os
import tempfile
from typing import Any, Optional, Union

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common import buffers
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

import hotlanes


def _stored(dtype: Any) -> str:
    """The column's dtype for a space's: 64-bit numbers are stored with 32 bits, booleans and int8 as ``u8``."""
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return "f32"
    if dtype == np.uint8 or dtype == np.bool_:
        return "u8"
    if dtype.kind in "iu":
        return "i32"
    raise ValueError(f"dtype {dtype}: must be of floats, integers or booleans")


_NUMPY = {"f32": np.float32, "u8": np.uint8, "i32": np.int32}


class ReplayBuffer(buffers.ReplayBuffer):
    """Stands in for stable-baselines3's ``ReplayBuffer``, with its arguments and results.

    ``optimize_memory_usage`` is refused. Draws are seeded by ``np.random``, as ``set_random_seed`` sets it. A pickled buffer
    (``save_replay_buffer``) holds the files of a saved one.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        device: Union[th.device, str] = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        handle_timeout_termination: bool = True,
    ) -> None:
        buffers.BaseBuffer.__init__(self, buffer_size, observation_space, action_space, device, n_envs=n_envs)
        if optimize_memory_usage:
            raise ValueError("optimize_memory_usage is True: must be False")
        if isinstance(self.obs_shape, dict):
            raise ValueError("a Dict of observations: must be one Box, Discrete, MultiDiscrete or MultiBinary")
        self.buffer_size = max(buffer_size // n_envs, 1)
        self.optimize_memory_usage = False
        self.handle_timeout_termination = handle_timeout_termination
        self._observed = _stored(observation_space.dtype)
        self._acted = _stored(self._maybe_cast_dtype(action_space.dtype))
        self._action_dtype = self._maybe_cast_dtype(action_space.dtype)
        self._make()

    def _make(self) -> None:
        columns = {
            "observations": (self._observed, self.obs_shape),
            "after": (self._observed, self.obs_shape),
            "actions": (self._acted, (self.action_dim,)),
            "rewards": ("f32", ()),
            "dones": ("f32", ()),
        }
        self._buffer = hotlanes.ReplayBuffer(
            columns,
            self.buffer_size * self.n_envs,
            episodes=False,
            eviction="record",
            seed=int(np.random.randint(1 << 31)),
        )

    def _batch(self, array: Any, shape: tuple[int, ...], stored: str) -> np.ndarray:
        return np.ascontiguousarray(np.asarray(array).reshape(self.n_envs, *shape), dtype=_NUMPY[stored])

    def add(
        self,
        obs: np.ndarray,
        next_obs: np.ndarray,
        action: np.ndarray,
        reward: np.ndarray,
        done: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        ends = np.array(done, dtype=np.float32).reshape(self.n_envs)
        if self.handle_timeout_termination:
            # What a time limit cuts has a value after it.
            ends *= 1.0 - np.array([info.get("TimeLimit.truncated", False) for info in infos], dtype=np.float32)
        self._buffer.add_batch(
            {
                "observations": self._batch(obs, self.obs_shape, self._observed),
                "after": self._batch(next_obs, self.obs_shape, self._observed),
                "actions": self._batch(action, (self.action_dim,), self._acted),
                "rewards": self._batch(reward, (), "f32"),
                "dones": ends,
            }
        )
        self.pos += 1
        if self.pos == self.buffer_size:
            self.full = True
            self.pos = 0

    def sample(self, batch_size: int, env: Optional[VecNormalize] = None) -> ReplayBufferSamples:
        drawn = self._buffer.sample(batch_size)
        data = (
            self._normalize_obs(drawn["observations"], env),
            drawn["actions"].astype(self._action_dtype, copy=False),
            self._normalize_obs(drawn["after"], env),
            drawn["dones"].reshape(-1, 1),
            self._normalize_reward(drawn["rewards"].reshape(-1, 1), env),
        )
        return ReplayBufferSamples(*(self.to_torch(array, copy=False) for array in data))

    def _get_samples(self, batch_inds: np.ndarray, env: Optional[VecNormalize] = None) -> ReplayBufferSamples:
        raise NotImplementedError("records are drawn, not indexed: call sample")

    def size(self) -> int:
        return self.buffer_size if self.full else self.pos

    def reset(self) -> None:
        self.pos = 0
        self.full = False
        self._make()

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        with tempfile.TemporaryDirectory() as directory:
            buffer = state.pop("_buffer")
            buffer.save(directory)
            state["_files"] = {}
            for name in os.listdir(directory):
                with open(os.path.join(directory, name), "rb") as file:
                    state["_files"][name] = file.read()
            buffer._native._release()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        files = state.pop("_files")
        self.__dict__.update(state)
        with tempfile.TemporaryDirectory() as directory:
            for name, content in files.items():
                with open(os.path.join(directory, name), "wb") as file:
                    file.write(content)
            self._buffer = hotlanes.ReplayBuffer.load(directory)
            self._buffer._native._release()
