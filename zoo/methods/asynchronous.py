"""What models share that are trained asynchronously: a message server that all processes and checkpoints know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import WeightsError, ZooError
from zoo.methods.moments import MomentModel
from zoo.networks.message_server import Mail, MessageServer
from zoo.networks.vgg import Vgg16, vgg_from_timm

_KEY = "message_server"


class Asynchronous(MomentModel):
    """A model of moments whose training frames talk to frames that other batches held.

    How messages travel: every process holds the messages of all videos. After a step each sends its batch's to all
    (a few hundred numbers a frame), and every process files them in the order in which one process with
    the whole batch would have had them. So any number of processes hears the same.

    Attributes:
        server: the messages; saved in checkpoints, so that a resumed run hears what the first would have.
        backbone: frames to features.
    """

    starts_from_files = True
    backbone: nn.Module
    server: MessageServer

    def hear(self, batch: dict[str, Any], like: Tensor) -> Mail:
        """What the others of their videos tell a training batch's frames, as numbers of the type of ``like``."""
        return self.server.receive(batch["video"], self.times(batch)).to(like.dtype)

    def exchange(self, batch: dict[str, Any], **messages: Tensor) -> dict[str, Tensor]:
        """File a training batch's messages with every process's server; returns those of all processes.

        Raises:
            ZooError: some are no numbers. Whoever heard them would say no numbers, too, for as long as they are kept.
        """
        sent = {"video": batch["video"], "time": self.times(batch), **{k: v.detach() for k, v in messages.items()}}
        if self._trainer is not None and self.trainer.world_size > 1:
            sent = {name: self._of_all(value) for name, value in sent.items()}
        known = torch.stack([sent[name].flatten(1).isfinite().all(1) for name in messages])
        if not known.all():  # of all processes, so that none is left waiting
            video = int(sent["video"][int((~known.all(0)).long().argmax())])
            raise ZooError(
                f"{self.name or type(self).__name__}: what a frame of training video {video} says is not a number: the "
                "weights have run away. Go on from an earlier checkpoint (--ckpt_path) at a lower rate, or with "
                "gradients clipped (--trainer.gradient_clip_val)."
            )
        self.server.send(**sent)
        return sent

    def _of_all(self, value: Tensor) -> Tensor:
        """A batch's rows ``[B * k, ...]``, k to a sample, of all W processes, ``[W * B * k, ...]``."""
        # Process r has the samples r, r + W, r + 2 W, ... of what one process would have had.
        rows = self.all_gather(value).unflatten(1, (-1, self.spec.moments.together))
        return rows.transpose(0, 1).flatten(0, 2)

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
