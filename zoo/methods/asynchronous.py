"""What models share that are trained asynchronously: a message server that all processes and checkpoints know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import WeightsError
from zoo.methods.moments import MomentModel
from zoo.networks.message_server import MessageServer
from zoo.networks.vgg import Vgg16, vgg_from_timm

_KEY = "message_server"


class Asynchronous(MomentModel):
    """A model of moments whose training frames talk to frames that other batches held.

    How messages travel: every process holds the messages of all videos. After a step each sends its batch's to all
    (a few hundred numbers a frame, gathered once), and every process files them in the order in which one process with
    the whole batch would have had them. So any number of processes hears the same.

    Attributes:
        server: the messages; saved in checkpoints, so that a resumed run hears what the first would have.
        backbone: frames to features.
    """

    starts_from_files = True
    backbone: nn.Module
    server: MessageServer

    def exchange(self, batch: dict[str, Any], **messages: Tensor) -> dict[str, Tensor]:
        """File a training batch's messages with every process's server; returns those of all processes."""
        sent = {"video": batch["video"], "time": self.times(batch), **{k: v.detach() for k, v in messages.items()}}
        if self._trainer is not None and self.trainer.world_size > 1:
            # Process r of W has the rows r, r + W, r + 2 W, ... of what one process would have had.
            sent = {name: self.all_gather(value).transpose(0, 1).flatten(0, 1) for name, value in sent.items()}
        self.server.send(**sent)
        return sent

    def adapt(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Another model's network for frames under this one's own head.

        Raises:
            WeightsError: they hold none.
        """
        network = {key: value for key, value in state.items() if key.startswith("backbone.")}
        if not network:
            raise WeightsError(
                f"these weights hold no network for frames (backbone...), which {self.name} could start from; take a "
                "classifier's of single frames, such as charades_two_stream_rgb."
            )
        return {**self.state_dict(), **network}

    def start_from_image(self, state: Mapping[str, Tensor]) -> None:
        """Take an image classifier's weights of timm's but its head."""
        if isinstance(self.backbone, Vgg16):
            state = vgg_from_timm(state)
        own = self.backbone.state_dict()
        self.backbone.load_state_dict({key: value for key, value in state.items() if key in own})

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.server.to(self.device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint[_KEY] = self.server.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        if self._trainer is not None and self.trainer.training and _KEY in checkpoint:
            self.server.load_state_dict(checkpoint[_KEY])


def rows_of(value: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
    """A batch's rows video by video."""
    return torch.split(value, lengths.tolist())
