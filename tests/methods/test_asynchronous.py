from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from zoo.errors import ZooError
from zoo.methods.asynchronous import Asynchronous
from zoo.methods.base import Recipe
from zoo.networks.message_server import MessageServer
from zoo.spec import MomentSpec, VideoSpec


class Talker(Asynchronous):
    """The first of three processes; the others' numbers are its own and 10 or 20 more."""

    def __init__(self, together: int = 1) -> None:
        super().__init__(spec=VideoSpec(fps=24, moments=MomentSpec(together=together)), recipe=Recipe(), num_classes=2)
        self.server = MessageServer({"say": 1})
        self._trainer = SimpleNamespace(world_size=3)

    def all_gather(self, value: torch.Tensor) -> torch.Tensor:
        return torch.stack([value, value + 10, value + 20])


def batch(rows: int) -> dict[str, torch.Tensor]:
    return {"video": torch.arange(rows), "rgb_time": torch.ones(rows, dtype=torch.int64)}


@pytest.mark.parametrize(
    ("together", "order"),
    [
        (1, [0, 10, 20, 1, 11, 21, 2, 12, 22, 3, 13, 23]),  # process r has the samples r, r + 3, ...
        (2, [0, 1, 10, 11, 20, 21, 2, 3, 12, 13, 22, 23]),  # of two rows each
    ],
)
def test_messages_are_filed_in_the_order_of_one_process(together, order):
    talker = Talker(together)
    sent = talker.exchange(batch(4), say=torch.arange(4.0)[:, None])
    assert sent["video"].tolist() == sent["say"][:, 0].tolist() == order
    assert talker.server.state_dict()["video"].tolist() == order


def test_what_is_no_number_is_named_and_not_kept():
    """In every process, whosever it is: none waits for another that has stopped."""
    talker = Talker()
    with pytest.raises(ZooError, match="training video 1 says is not a number"):
        talker.exchange(batch(2), say=torch.tensor([[0.0], [torch.inf]]))
    assert len(talker.server) == 0
