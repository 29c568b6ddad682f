import os
from typing import Any, Iterable, Mapping, Optional, Sequence, Union

import numpy as np
from numpy.typing import NDArray

__version__: str
STEP_CONTINUES: int
STEP_TERMINATED: int
STEP_TRUNCATED: int
STEP_FINAL: int

Columns = Union[Mapping[str, tuple], Iterable[tuple]]
Arrays = dict[str, NDArray[Any]]

class Writer:
    @property
    def streams(self) -> int: ...
    def add(self, data: Optional[Arrays] = None, /, *, step: Optional[int] = None, **columns: Any) -> int: ...
    def add_batch(self, data: Arrays, steps: Optional[NDArray[np.uint8]] = None) -> NDArray[np.uint64]: ...
    def close(self) -> None: ...
    def __enter__(self) -> "Writer": ...
    def __exit__(self, *exception: Any) -> None: ...

class ReplayBuffer:
    def __new__(
        cls,
        columns: Columns,
        capacity: int,
        *,
        episodes: bool = True,
        eviction: str = "segment",
        priorities: Optional[float] = None,
        seed: int = 0,
        segments: int = 0,
        allow_copy: bool = False,
    ) -> "ReplayBuffer": ...
    @property
    def capacity(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def schema(self) -> dict[str, tuple]: ...
    @property
    def extra(self) -> Optional[bytes]: ...
    def __len__(self) -> int: ...
    def add(self, data: Optional[Arrays] = None, /, *, step: Optional[int] = None, **columns: Any) -> int: ...
    def add_batch(self, data: Arrays, steps: Optional[NDArray[np.uint8]] = None) -> NDArray[np.uint64]: ...
    def writer(self, streams: int = 1) -> Writer: ...
    def resume_writers(self) -> list[Writer]: ...
    def sample(
        self,
        n: int,
        method: str = "uniform",
        *,
        beta: float = 0.4,
        replace: bool = True,
        columns: Optional[Sequence[str]] = None,
        n_step: Optional[int] = None,
        gamma: float = 0.99,
        reward: str = "reward",
        sequence: Optional[int] = None,
        pad: bool = False,
    ) -> Arrays: ...
    def sample_into(
        self,
        out: Arrays,
        n: int,
        method: str = "uniform",
        *,
        beta: float = 0.4,
        replace: bool = True,
        n_step: Optional[int] = None,
        gamma: float = 0.99,
        reward: str = "reward",
        sequence: Optional[int] = None,
        pad: bool = False,
    ) -> Arrays: ...
    def update_priorities(self, ids: NDArray[np.uint64], priorities: NDArray[np.float32]) -> int: ...
    def save(self, directory: Union[str, os.PathLike[str]], extra: Optional[bytes] = None) -> int: ...
    @staticmethod
    def load(directory: Union[str, os.PathLike[str]], *, allow_copy: bool = False) -> "ReplayBuffer": ...
    def close(self) -> None: ...
