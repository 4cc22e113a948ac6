"""Image networks as they come, read frame by frame: the ImageNet rows of the correspondence tables."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from zoo.methods.correspondence import Correspondence
from zoo.networks.frame_encoder import FrameEncoder
from zoo.networks.propagation import Propagation
from zoo.registry import register
from zoo.spec import VideoSpec


class TimmEncoder(Correspondence):
    """A ResNet of timm's up to its third stage at stride 8; nothing in it learns."""

    default_weights = "imagenet"

    def __init__(self, backbone: str, pretrained: bool, propagation: Propagation) -> None:
        from timm.models import get_pretrained_cfg

        encoder = FrameEncoder(backbone, projection=None, pretrained=pretrained).requires_grad_(False)
        colours = get_pretrained_cfg(backbone)
        spec = VideoSpec(frames=1, stride=1, clips=1, crops=1, mean=tuple(colours.mean), std=tuple(colours.std))
        super().__init__(encoder, spec=spec, propagation=propagation)
        self.image_backbone = backbone

    def start_from_image(self, state: Mapping[str, Tensor]) -> None:
        """Take an image classifier's weights."""
        self.encoder.start_from_image(state)


@register("timm_encoder", paper="wightman2019timm")
def timm_encoder(
    backbone: str = "resnet50.tv_in1k",
    pretrained: bool = False,
    size: int | None = 320,
    references: int = 7,
    topk: int = 5,
) -> TimmEncoder:
    """Any ResNet of timm's as a frozen encoder of frames, to propagate labels with.

    Args:
        backbone: timm's name, with or without the name of its weights.
        pretrained: fetch those weights by timm at once. ``zoo.load("timm_encoder", weights="imagenet")`` does, too.
        size: side of the square that frames are resized to in propagation; None keeps them as they are.
        references: preceding frames that propagation looks into.
        topk: neighbours that it takes from each.
    """
    return TimmEncoder(backbone, pretrained, Propagation(size=size, references=references, topk=topk))
