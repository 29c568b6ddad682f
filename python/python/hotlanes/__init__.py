"""An experience replay buffer: samples are never torn, an observation is never paired with another step's successor, a
draw depends on the seed alone, and a saved buffer survives a crash.

>>> import numpy as np, hotlanes
>>> columns = {"obs": ("f32", (4,)), "action": ("i32", ()), "reward": ("f32", ())}
>>> buffer = hotlanes.ReplayBuffer(columns, 100_000, seed=1)
>>> for step in range(3):
...     kind = hotlanes.STEP_TERMINATED if step == 2 else hotlanes.STEP_CONTINUES
...     _ = buffer.add(obs=np.full(4, step, np.float32), action=0, reward=1.0, step=kind)
>>> batch = buffer.sample(3, "newest", replace=False, n_step=2, gamma=0.5)
>>> batch["returns"].tolist(), batch["discounts"].tolist()
([1.0, 1.5, 1.5], [0.0, 0.0, 0.25])

``hotlanes.sb3.ReplayBuffer`` is one for stable-baselines3.
"""

from ._hotlanes import (
    STEP_CONTINUES,
    STEP_FINAL,
    STEP_TERMINATED,
    STEP_TRUNCATED,
    ReplayBuffer,
    Writer,
    __version__,
)

__all__ = [
    "ReplayBuffer",
    "STEP_CONTINUES",
    "STEP_FINAL",
    "STEP_TERMINATED",
    "STEP_TRUNCATED",
    "Writer",
    "__version__",
]
