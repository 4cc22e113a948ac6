"""The message server of asynchronous training: what frames of a video told each other when they were last seen.

A frame in a batch receives a weighted mean of the messages of its video's other frames (Eq. 10 of Sigurdsson et al.
2017), each faded by its distance in time (Eq. 4), and leaves its own. Everything is tensors over the whole batch; only
the look-up of a video's place is a dictionary.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from zoo.errors import ZooError

EMPTY = -1
_START = 64  # videos that the first allocation has room for


@dataclass(frozen=True)
class Mail:
    """The messages of each receiver's video and what each counts; a row of ``weight`` sums to one, or to zero.

    Attributes:
        messages: name to ``[B, K, width]``.
        past: ``[B, K]`` weights among the messages of earlier frames.
        future: ``[B, K]`` among those of later ones.
        all: ``[B, K]`` among all.
        kernel: ``[B, K]`` Eq. 4 between sender and receiver.
    """

    messages: dict[str, Tensor]
    past: Tensor
    future: Tensor
    all: Tensor
    kernel: Tensor

    def gather(self, name: str, side: Literal["past", "future", "all"], *, fade: bool = True) -> Tensor:
        """The weighted mean of a message ``[B, width]``, faded by the kernel (which the weights do not make up for)."""
        weight = getattr(self, side)
        return torch.einsum("bk,bkw->bw", weight * self.kernel if fade else weight, self.messages[name])

    def count(self, side: Literal["past", "future", "all"]) -> Tensor:
        """Messages of a side for each receiver, ``[B]``."""
        return (getattr(self, side) > 0).sum(1)

    def to(self, dtype: torch.dtype) -> Mail:
        """The same as numbers of another type."""
        weights = (weight.to(dtype) for weight in (self.past, self.future, self.all, self.kernel))
        return Mail({name: message.to(dtype) for name, message in self.messages.items()}, *weights)


class MessageServer:
    """The last messages of many videos, in memory that is bounded and allocated as videos come.

    Args:
        widths: of each message, by name.
        capacity: messages kept of a video.
        decay: d of Eq. 10.
        emphasis: ``"recent"`` lets the newest message count most, as the paper says; ``"oldest"`` is what the release
            does, whose exponents run the other way.
        sigma: of the kernel, in images (150 are 6.25 seconds).
        strict: a frame does not hear what was sent from its own time.
        overwrite: a frame that is seen again replaces its old message; else both are kept.
        videos: kept at most; the one that was silent longest makes room.
        dtype: that messages are kept in.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        capacity: int = 50,
        decay: float = 0.9,
        emphasis: Literal["recent", "oldest"] = "recent",
        sigma: float = 150.0,
        *,
        strict: bool = False,
        overwrite: bool = True,
        videos: int = 10_000,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if capacity < 1 or videos < 1 or not 0 < decay <= 1 or not sigma > 0:
            raise ZooError(
                "a message server needs capacity and videos of at least 1, a decay above 0 up to 1 and a positive "
                f"sigma, got {capacity}, {videos}, {decay}, {sigma}."
            )
        self.widths, self.capacity, self.decay, self.emphasis = dict(widths), capacity, decay, emphasis
        self.sigma, self.strict, self.overwrite, self.videos, self.dtype = sigma, strict, overwrite, videos, dtype
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._place: OrderedDict[int, int] = OrderedDict()  # video to row, the longest silent first
        self._sent = 0  # messages so far, which is what they are ordered by
        self._time = torch.empty(0, self.capacity, dtype=torch.int64)
        self._order = torch.empty(0, self.capacity, dtype=torch.int64)
        self._kept = {
            name: torch.empty(0, self.capacity, width, dtype=self.dtype) for name, width in self.widths.items()
        }

    def __len__(self) -> int:
        """Videos that have sent something."""
        return len(self._place)

    @property
    def bytes(self) -> int:
        """Memory that is allocated."""
        return sum(t.numel() * t.element_size() for t in (self._time, self._order, *self._kept.values()))

    def times(self, video: int) -> Tensor:
        """When the kept messages of a video were sent from, the longest kept first."""
        row = self._place[int(video)]
        held = self._order[row] != EMPTY
        return self._time[row][held][self._order[row][held].argsort()]

    def receive(self, video: Tensor, time: Tensor) -> Mail:
        """What frames are told by the others of their videos.

        Args:
            video: ``[B]`` numbers of videos.
            time: ``[B]`` image numbers; messages of the same time count as earlier ones unless the server is strict.
        """
        device = time.device
        rows = [self._place.get(v, EMPTY) for v in video.tolist()]
        if not self._place or max(rows, default=EMPTY) == EMPTY:
            nothing = torch.zeros(len(rows), 1, dtype=self.dtype, device=device)
            messages = {name: nothing[..., None].expand(-1, -1, width) for name, width in self.widths.items()}
            return Mail(messages, nothing, nothing, nothing, nothing)
        row = torch.tensor(rows, device=self._time.device)
        known = (row != EMPTY)[:, None]
        row = row.clamp(min=0)
        order = torch.where(known, self._order[row], EMPTY).to(device)
        sent = self._time[row].to(device)
        at = time[:, None]
        held = (order != EMPTY) & (sent != at) if self.strict else order != EMPTY
        past = held & (sent <= at)
        future = held & (sent > at)
        kernel = torch.where(held, fade(sent - at, self.sigma), 0)
        sides = (self._weights(order, side) for side in (past, future, held))
        return Mail({n: kept[row].to(device) for n, kept in self._kept.items()}, *sides, kernel.to(self.dtype))

    def send(self, video: Tensor, time: Tensor, **messages: Tensor) -> None:
        """Leave a message for the other frames of each video, in the order of the rows.

        Args:
            video: ``[B]``.
            time: ``[B]`` image numbers.
            **messages: every message of the server by name, ``[B, width]``.
        """
        if set(messages) != set(self.widths):
            raise ZooError(f"a message server of {sorted(self.widths)} was sent {sorted(messages)}.")
        videos = video.tolist()
        if not videos:
            return
        self.to(next(iter(messages.values())).device)
        self._make_room(videos)
        row = torch.tensor([self._place[v] for v in videos], device=self._time.device)
        time = time.to(row.device)
        messages = {name: message.detach().to(row.device) for name, message in messages.items()}
        # Two rows of one video must not meet in one write: those that are the n-th of their video go together.
        turn = _turns(videos)
        for n in range(max(turn) + 1):
            chosen = torch.tensor([i for i, t in enumerate(turn) if t == n], device=row.device)
            at, when = row[chosen], time[chosen]
            slot = self._order[at].argmin(1)  # an empty one, else the oldest
            if self.overwrite:
                same = (self._time[at] == when[:, None]) & (self._order[at] != EMPTY)
                slot = torch.where(same.any(1), same.int().argmax(1), slot)
            self._time[at, slot] = when
            self._order[at, slot] = self._sent + chosen
            for name, message in messages.items():
                self._kept[name][at, slot] = message[chosen].to(self._kept[name].dtype)
        self._sent += len(videos)

    def to(self, device: torch.device) -> MessageServer:
        """Live on a device, by default that of the first messages."""
        if self._time.device != device:
            self._time, self._order = self._time.to(device), self._order.to(device)
            self._kept = {name: kept.to(device) for name, kept in self._kept.items()}
        return self

    def state_dict(self) -> dict[str, Any]:
        """All that is kept, in the order in which videos would make room."""
        row = torch.tensor(list(self._place.values()), dtype=torch.int64, device=self._time.device)
        kept = {f"kept.{name}": t[row].cpu() for name, t in self._kept.items()}
        video = torch.tensor(list(self._place), dtype=torch.int64)
        return {
            "video": video,
            "time": self._time[row].cpu(),
            "order": self._order[row].cpu(),
            "sent": torch.tensor(self._sent),
            **kept,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`.

        Raises:
            ZooError: it is the state of another kind of server.
        """
        for name, width in self.widths.items():
            found = state.get(f"kept.{name}")
            if found is None or tuple(found.shape[1:]) != (self.capacity, width):
                raise ZooError(
                    f"the checkpoint's messages are not this model's: {name!r} should be of {self.capacity} x {width}, "
                    f"is of {'nothing' if found is None else ' x '.join(map(str, found.shape[1:]))}. Train on with the "
                    "options that the run began with."
                )
        self.clear()
        self._place = OrderedDict((int(v), n) for n, v in enumerate(state["video"].tolist()))
        self._time, self._order, self._sent = state["time"].clone(), state["order"].clone(), int(state["sent"])
        self._kept = {name: state[f"kept.{name}"].clone() for name in self.widths}

    def _make_room(self, videos: list[int]) -> None:
        wanted = dict.fromkeys(videos)
        if len(wanted) > self.videos:
            raise ZooError(f"a batch of {len(wanted)} videos does not fit a message server of {self.videos}.")
        for video in wanted:
            if video in self._place:
                self._place.move_to_end(video)
        for video in wanted:
            if video in self._place:
                continue
            if len(self._place) < self.videos:
                row = len(self._place)
                if row == len(self._time):
                    self._grow()
            else:
                _, row = self._place.popitem(last=False)
                self._order[row] = EMPTY
            self._place[video] = row

    def _grow(self) -> None:
        more = min(max(_START, len(self._time)), self.videos - len(self._time))
        self._time = torch.cat([self._time, self._time.new_zeros(more, self.capacity)])
        self._order = torch.cat([self._order, self._order.new_full((more, self.capacity), EMPTY)])
        self._kept = {n: torch.cat([k, k.new_zeros(more, *k.shape[1:])]) for n, k in self._kept.items()}

    def _weights(self, order: Tensor, side: Tensor) -> Tensor:
        """d^n over its sum, for the n-th message of a side counted from where the emphasis lies; ``[B, K]``."""
        shown = torch.where(side, order, torch.iinfo(order.dtype).max)  # those of the other side come last
        rank = shown.argsort(1).argsort(1)
        if self.emphasis == "recent":
            rank = side.sum(1, keepdim=True) - 1 - rank
        weight = torch.where(side, self.decay ** rank.clamp(min=0).to(self.dtype), 0)
        return weight / weight.sum(1, keepdim=True).clamp(min=torch.finfo(self.dtype).tiny)


def fade(images: Tensor, sigma: float) -> Tensor:
    """k = exp(-(i - j)^2 / (2 sigma^2)) (Eq. 4) of distances in images, in 64-bit floats."""
    return torch.exp(-(images.double() ** 2) / (2 * sigma**2))


def wide(value: Tensor) -> Tensor:
    """In 32-bit floats at least, which messages and probabilities of hundreds of states need."""
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value


def _turns(videos: list[int]) -> list[int]:
    """How many rows of its video stand before each row."""
    seen: dict[int, int] = {}
    turns = []
    for video in videos:
        turns.append(seen.get(video, 0))
        seen[video] = turns[-1] + 1
    return turns
