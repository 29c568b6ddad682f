"""An experience replay buffer whose samples are never torn, whose draws depend on the seed alone, and which survives a crash.

>>> import numpy as np, hotlanes
>>> buffer = hotlanes.ReplayBuffer({"obs": ("f32", (4,)), "action": ("i32", ()), "reward": ("f32", ())}, 1000, seed=1)
>>> steps = np.array([hotlanes.CONTINUES, hotlanes.TERMINATED], np.uint8)
>>> ids = buffer.add_batch(
...     {"obs": np.zeros((2, 4), np.float32), "action": np.zeros(2, np.int32), "reward": np.ones(2, np.float32)}, steps
... )
>>> batch = buffer.sample(8, n_step=2, gamma=0.5, reward="reward", columns=["obs", "next_obs"])
>>> batch["obs"].shape, sorted(set(batch["returns"].tolist()))
((8, 4), [1.0, 1.5])
"""

from __future__ import annotations

import os
from typing import Any, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from . import _hotlanes

__all__ = ["CONTINUES", "FINAL", "ReplayBuffer", "TERMINATED", "TRUNCATED"]

#: The stream's next record is the next step of the episode.
CONTINUES = 0
#: The episode ended with this step: the value of what would follow is 0.
TERMINATED = 1
#: The episode was cut after this step, as by a time limit: what would follow has a value.
TRUNCATED = 2
#: Not a step: the observation after the last one. The other columns are ignored, and it is never drawn itself.
FINAL = 3

Path = Union[str, "os.PathLike[str]"]


class ReplayBuffer:
    """Records of named columns.

    Parameters
    ----------
    columns
        ``{name: (dtype, shape)}`` or ``{name: (dtype, shape, codec)}``. The dtypes are ``f32``, ``bf16`` (NumPy arrays of
        ``uint16``, which ``torch.from_numpy(x).view(torch.bfloat16)`` reads), ``u8``, ``i32`` and ``bits`` (of ``uint8``,
        eight to a byte, the lowest first; one axis of bytes in place of the shape). The shape is that of one record. The
        codecs are ``"raw"``, ``"lz4"``, ``"frames"`` (stacks of frames, oldest first), ``("bit_planes", plane, constant)``
        (zeros and ones in planes of so many elements, the last planes each of one value) and ``("top_k", k, bf16)`` (at
        most ``k`` values that are not +0).
    capacity
        Records, rounded up to whole segments.
    episodes
        Whether records are steps of episodes, which returns and sequences need.
    streams
        Environments that are stepped together: each call of ``add_batch`` has one or more rounds of a record for each.
    eviction
        ``"segment"``: the oldest segment goes as a whole; ``"record"``: always the newest ``capacity`` records are there.
    priorities
        For prioritised draws: the exponent ``alpha`` of a priority.
    seed
        Of all draws: a draw is a function of the seed, the number of the call and the contents, not of threads or the CPU.
    segments
        Segments that the capacity is divided into; 0 for a number that fits.

    Arrays are taken without a copy if they are C-contiguous and of the exact dtype and shape, and refused if not;
    ``allow_copy=True`` converts. All calls that move data release the GIL: any number of threads may add and sample. An
    array must not be written to by another thread while a call reads it.
    """

    def __init__(
        self,
        columns: Mapping[str, Tuple[Any, ...]],
        capacity: int,
        *,
        episodes: bool = True,
        streams: int = 1,
        eviction: str = "segment",
        priorities: Optional[float] = None,
        seed: int = 0,
        segments: int = 0,
    ) -> None:
        self._native = _hotlanes.ReplayBuffer(
            dict(columns),
            capacity,
            episodes=episodes,
            streams=streams,
            eviction=eviction,
            priorities=priorities,
            seed=seed,
            segments=segments,
        )

    def add(self, data: Mapping[str, Any], step: int = CONTINUES, *, allow_copy: bool = False) -> int:
        """Adds one record (of a buffer of one stream): arrays of the columns' shapes. Returns its id.

        ``step`` is its kind in the episode: ``CONTINUES``, ``TERMINATED``, ``TRUNCATED`` or ``FINAL``.
        """
        return self._native.add(_dict(data), step, allow_copy=allow_copy)

    def add_batch(
        self, data: Mapping[str, Any], steps: Optional[np.ndarray] = None, *, allow_copy: bool = False
    ) -> np.ndarray:
        """Adds records: arrays of shape ``(records, *shape)``. Returns their ids (``uint64``).

        ``steps`` (``uint8``) has their kinds; without, all continue. They become visible together, but for those that go to
        another segment. Nothing is added where anything is refused.
        """
        return self._native.add_batch(_dict(data), steps, allow_copy=allow_copy)

    def sample(
        self,
        count: int,
        *,
        columns: Optional[Sequence[str]] = None,
        method: str = "uniform",
        beta: float = 0.4,
        replace: bool = True,
        n_step: Optional[int] = None,
        gamma: float = 0.99,
        reward: Optional[str] = None,
        sequence: Optional[int] = None,
        pad: bool = False,
    ) -> dict[str, np.ndarray]:
        """Draws ``count`` records; returns new arrays of shape ``(count, *shape)`` (``sample_into`` needs none).

        Parameters
        ----------
        columns
            Those that are copied; with ``n_step`` also ``next_NAME``, of the record after the last step of a return (zeros
            where there is none).
        method
            ``"uniform"``; ``"prioritised"``, by ``priority ** alpha``, with importance weights ``(N P) ** -beta`` divided by
            the greatest of the draw; ``"newest"``, the newest first.
        replace
            Whether one record may be drawn several times in a call.
        n_step, gamma, reward
            Returns ``r[0] + gamma r[1] + ... + gamma^(m-1) r[m-1]`` of the column ``reward``, with the ``m <= n_step`` steps
            that were really taken, and discounts ``gamma^m``, 0 after a step that terminated.
        sequence, pad
            Runs of so many consecutive records of one episode, shape ``(count, sequence, *shape)``; with ``pad`` shorter
            ones, too, filled with zeros.

        Returns the columns and ``ids`` (``uint64``), ``weights`` (``float32``), with ``n_step`` ``returns`` and
        ``discounts``, with either ``steps`` (``uint32``).
        """
        draw = _draw(method, beta, replace, n_step, gamma, reward, sequence, pad)
        return self._native._sample(count, None if columns is None else list(columns), draw)

    def sample_into(
        self,
        out: Mapping[str, np.ndarray],
        count: int,
        *,
        method: str = "uniform",
        beta: float = 0.4,
        replace: bool = True,
        n_step: Optional[int] = None,
        gamma: float = 0.99,
        reward: Optional[str] = None,
        sequence: Optional[int] = None,
        pad: bool = False,
    ) -> dict[str, np.ndarray]:
        """As ``sample``, into the caller's arrays, in one pass; returns what is not of columns."""
        draw = _draw(method, beta, replace, n_step, gamma, reward, sequence, pad)
        return self._native._sample_into(_dict(out), count, draw)

    def update_priorities(self, ids: np.ndarray, priorities: np.ndarray) -> int:
        """Sets the priorities (``float32``, 0 to 1e24) of records by their ids (``uint64``).

        Those that were evicted meanwhile are left out. Returns how many were set.
        """
        return self._native.update_priorities(ids, priorities)

    def save(self, directory: Path, *, compress: bool = False) -> dict[str, int]:
        """Saves the buffer, while writers and samplers go on: what is there already is not written again.

        Whatever stops it, the directory has the state before or the one after. Returns the segments that were ``written``,
        ``kept`` and ``evicted`` meanwhile, and the ``bytes`` written.
        """
        return self._native.save(directory, compress=compress)

    @staticmethod
    def load(directory: Path) -> "ReplayBuffer":
        """A saved buffer: its next add and its next draw are those of the one that was saved."""
        buffer = ReplayBuffer.__new__(ReplayBuffer)
        buffer._native = _hotlanes.ReplayBuffer.load(directory)
        return buffer

    def __len__(self) -> int:
        return len(self._native)

    @property
    def capacity(self) -> int:
        """Records that were asked for."""
        return self._native.capacity

    @property
    def nbytes(self) -> int:
        """Bytes that the buffer takes for records and priorities."""
        return self._native.nbytes

    @property
    def columns(self) -> dict[str, tuple[str, list[int]]]:
        """The dtype and shape of each column."""
        return self._native.columns


def _dict(data: Mapping[str, Any]) -> dict[str, Any]:
    return data if isinstance(data, dict) else dict(data)


def _draw(
    method: str,
    beta: float,
    replace: bool,
    n_step: Optional[int],
    gamma: float,
    reward: Optional[str],
    sequence: Optional[int],
    pad: bool,
) -> dict[str, Any]:
    return {
        "method": method,
        "beta": beta,
        "replace": replace,
        "n_step": n_step,
        "gamma": gamma,
        "reward": reward,
        "sequence": sequence,
        "pad": pad,
    }
