"""The ground of metrics that keep a few whole numbers per frame: each frame counts once, whoever saw it and how often.

Numbers that a protocol needs exactly are kept as counts of pixels, joints or frames, so that one process and eight give
the same result to the last bit. What is no count (an error, a score) is kept as the bits of a double.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from zoo.errors import ZooError

SEQUENCE, FRAME = 0, 1  # the first two columns of every row
_DISCARDED = -1  # the frame of a row that says: nothing of this sequence counts


class FrameRows(Metric):
    """A metric whose state is one table of int64 rows, each known by its first columns: sequence, frame, and so on.

    A row that comes twice counts once (the first stays). A discarded sequence has no rows, in whatever order and in
    whichever process the rows and the discarding met. The table grows with frames, never with pixels.

    Args:
        key: how many columns, from the first on, name a row.
        columns: how many columns a row has.
    """

    is_differentiable = False
    full_state_update = False

    rows: list[Tensor]

    def __init__(self, key: int, columns: int) -> None:
        super().__init__()
        self.key, self.columns = key, columns
        self.add_state("rows", default=[], dist_reduce_fx="cat")  # [R, columns] int64

    def discard(self, sequence: int) -> None:
        """Let nothing of ``sequence`` count, neither what came nor what may still come, until `reset`."""
        if sequence < 0:
            raise ZooError(f"{type(self).__name__}.discard: sequences are numbered from 0, got {sequence}.")
        mark = torch.zeros(1, self.columns, dtype=torch.int64, device=self.device)
        mark[0, SEQUENCE], mark[0, FRAME] = sequence, _DISCARDED
        self.rows = [mark, *(rows[rows[:, SEQUENCE] != sequence] for rows in self.rows)]
        self._computed = None  # of torchmetrics, which knows of `update` alone

    def sync(self, *args, **kwargs) -> None:
        """Merge first: it sends less, and a process without rows joins the gather with a table of no rows."""
        if not self._is_synced:
            self.rows = [self._merged()]
        super().sync(*args, **kwargs)

    def _add(self, *columns: Tensor) -> None:
        """Append rows, given by their columns: ``[R]`` or ``[R, several]``, whole numbers or doubles."""
        parts = [_whole(column)[:, None] if column.ndim == 1 else _whole(column) for column in columns]
        self.rows.append(torch.cat([part.to(self.device) for part in parts], dim=1))

    def _table(self) -> Tensor:
        """``[R, columns]`` on the CPU: the rows that count, in the order of their keys."""
        rows = self._merged().cpu()
        return rows[rows[:, FRAME] != _DISCARDED]

    def _gathered(self) -> Tensor:
        """`_table` of all processes, outside `compute`; all of them must ask for it."""
        with self.sync_context(
            dist_sync_fn=self.dist_sync_fn, should_sync=self._to_sync, should_unsync=self._should_unsync
        ):
            return self._table()

    def _merged(self) -> Tensor:
        # After a gather torchmetrics leaves a tensor where a list was.
        rows = torch.cat(self.rows) if isinstance(self.rows, list) and self.rows else self.rows
        if not isinstance(rows, Tensor):
            return torch.zeros(0, self.columns, dtype=torch.int64, device=self.device)
        for column in reversed(range(self.key)):  # stable sorts, the last one by the first column
            rows = rows[rows[:, column].argsort(stable=True)]
        keep = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
        keep[1:] = (rows[1:, : self.key] != rows[:-1, : self.key]).any(1)
        gone = rows[rows[:, FRAME] == _DISCARDED, SEQUENCE]
        keep &= ~torch.isin(rows[:, SEQUENCE], gone) | (rows[:, FRAME] == _DISCARDED)
        return rows[keep]

    def _result(self, values: dict[str, float]) -> dict[str, Tensor]:
        """The numbers as tensors where the metric lives: doubles, but for Apple's GPUs, which know none."""
        dtype = torch.float32 if self.device.type == "mps" else torch.float64
        return {name: torch.tensor(float(value), dtype=dtype, device=self.device) for name, value in values.items()}

    def _check_run(self, sequence: int, frames: Tensor, count: int) -> Tensor:
        """The frame numbers on the CPU; refuses numbers that can't name ``count`` frames of a sequence."""
        where = f"{type(self).__name__}.update: sequence {sequence}"
        if sequence < 0:
            raise ZooError(f"{where}: sequences are numbered from 0.")
        if not isinstance(frames, Tensor) or frames.dtype.is_floating_point or frames.shape != (count,):
            got = f"{frames.dtype} {tuple(frames.shape)}" if isinstance(frames, Tensor) else type(frames).__name__
            raise ZooError(f"{where}: frames must be [{count}] whole numbers, one for each frame, got {got}.")
        frames = frames.cpu().long()
        if count and (frames.min() < 0 or len(frames.unique()) != count):
            raise ZooError(f"{where}: frames must differ and be numbered from 0, got {frames.tolist()}.")
        return frames


def doubles(bits: Tensor) -> Tensor:
    """The doubles whose bits a table keeps as int64 (on the CPU)."""
    return bits.contiguous().view(torch.float64)


def _whole(column: Tensor) -> Tensor:
    """int64: whole numbers as they are, others as the bits of their double."""
    if column.is_floating_point():
        return column.detach().cpu().double().contiguous().view(torch.int64)
    return column.long()
