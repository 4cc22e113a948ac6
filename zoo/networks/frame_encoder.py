"""An image network that reads a video frame by frame and keeps its features dense: one vector for every few pixels.

Correspondence methods compare places of different frames, so the last stages of a ResNet do not halve the map. They are
not dilated in return: a stage's kernels span half as many pixels as they would in the classifier.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn.functional import normalize

from zoo.errors import FetchError, WeightsError, ZooError

Stage = Literal["layer1", "layer2", "layer3", "layer4"]


class FrameEncoder(nn.Module):
    """A timm ResNet up to one of its stages, all stages past ``stride`` at the same resolution, without its classifier.

    The parts keep torchvision's names (``conv1``, ``bn1``, ``layer1.0.conv1``, ..., ``layer1.0.downsample.0``).
    Published 3D convolutions whose kernels are one frame long are these with an axis more; their batch norm over batch,
    time and space is this one's over frames that lie in one batch.

    Attributes:
        channels: of the features.
        stride: pixels from one feature to the next.
    """

    def __init__(
        self,
        backbone: str = "resnet50",
        *,
        last: Stage = "layer3",
        output: Stage | None = None,
        projection: int | None = 512,
        stride: int = 8,
        padding_mode: Literal["zeros", "reflect"] = "zeros",
        pretrained: bool = False,
        **options: Any,
    ) -> None:
        """
        Args:
            backbone: timm's name of a ResNet, with or without the name of its weights (``"resnet50.tv_in1k"``).
            last: the last stage; what comes after it is left out.
            output: the stage whose features are given out, where a later one serves training only; ``last`` by default.
            projection: width of a 1x1 convolution (no bias, no norm) and ReLU on top; None for none.
            stride: 4 or more; a stage that would go beyond it neither strides nor dilates.
            padding_mode: of every padded convolution.
            pretrained: start from timm's weights of that name in place of fresh ones (the projection starts fresh).
            **options: of timm's ResNet, such as ``layers`` and ``channels`` of a narrower one.

        Raises:
            ZooError: the backbone is no ResNet, or one that cannot be kept dense.
            FetchError: timm's weights could not be brought here.
        """
        super().__init__()
        network = _network(backbone, pretrained, options)
        self.stages: tuple[str, ...] = tuple(f"layer{n}" for n in range(1, int(last[-1]) + 1))
        if missing := [name for name in self.stages if not hasattr(network, name)]:
            raise ZooError(f"{backbone} with {options} has no {missing[0]}: choose an earlier last stage.")
        self.conv1, self.bn1, self.act1, self.maxpool = network.conv1, network.bn1, network.act1, network.maxpool
        self.output = output or last
        if self.output not in self.stages:
            raise ZooError(f"{self.output} cannot be given out by an encoder whose last stage is {last}.")
        self.stride, self.channels = 4, 0
        for name, info in zip(self.stages, network.feature_info[1:], strict=False):
            stage = getattr(network, name)
            if name != "layer1" and self.stride >= stride:
                _keep_dense(stage, backbone)
            elif name != "layer1":
                self.stride *= 2
            self.add_module(name, stage)
            if name == self.output:
                self.channels = info["num_chs"]
        if self.stride != stride:
            raise ZooError(
                f"{backbone} up to {last} has a stride of {self.stride}, not {stride}; choose 4, 8, 16 or 32."
            )
        self.projection: nn.Module | None = None
        if projection is not None:
            self.projection = nn.Conv2d(self.channels, projection, 1, bias=False)
            nn.init.kaiming_normal_(self.projection.weight, mode="fan_out", nonlinearity="relu")
            self.channels = projection
        if padding_mode != "zeros":
            for module in self.modules():
                if isinstance(module, nn.Conv2d) and max(module.padding) > 0:
                    module.padding_mode = padding_mode

    def forward(self, frames: Tensor) -> Tensor:
        """Normalised frames ``[N, 3, H, W]`` of any size to ``[N, channels, ceil(H / stride), ceil(W / stride)]``.

        The values are not normalised; `unit` gives vectors to compare by their cosine.
        """
        features = self.stage(frames, self.output)
        return features if self.projection is None else self.projection(features).relu()

    def stage(self, frames: Tensor, last: str) -> Tensor:
        """What comes out of the stage ``last``, before any projection."""
        x = self.maxpool(self.act1(self.bn1(self.conv1(frames))))
        for name in self.stages[: self.stages.index(last) + 1]:
            x = getattr(self, name)(x)
        return x

    def start_from_image(self, state: Mapping[str, Tensor]) -> None:
        """Fill all but the projection from an image classifier's weights; its later stages and its top stay behind.

        Raises:
            WeightsError: naming everything that is missing, that there is no place for, or that has another shape.
        """
        own = {key: value.shape for key, value in self.state_dict().items() if not key.startswith("projection.")}
        left = tuple(f"layer{n}." for n in range(len(self.stages) + 1, 5))
        state = {key: value for key, value in state.items() if not key.startswith(("fc.", *left))}
        problems = [f"missing {key}" for key in own.keys() - state.keys()]
        problems += [f"no place for {key}" for key in state.keys() - own.keys()]
        problems += [
            f"{key} is {list(state[key].shape)}, not {list(own[key])}"
            for key in own.keys() & state.keys()
            if state[key].shape != own[key]
        ]
        if problems:
            raise WeightsError(f"image weights do not fit the encoder: {'; '.join(sorted(problems))}.")
        self.load_state_dict(state, strict=False)


def unit(features: Tensor) -> Tensor:
    """Features ``[N, C, ...]`` of length one over their channels; one that is all zero stays so."""
    return normalize(features, dim=1)


def _network(backbone: str, pretrained: bool, options: dict[str, Any]) -> nn.Module:
    import timm
    from timm.models.resnet import ResNet

    try:
        network = timm.create_model(backbone, pretrained=pretrained, num_classes=0, **options)
    except RuntimeError as error:
        if not pretrained or "Unknown model" in str(error):
            raise ZooError(f"timm has no backbone {backbone!r}: {error}.") from error
        raise _unfetched(backbone, error) from error
    except Exception as error:  # the hub's and the network's errors share no parent
        if not pretrained:
            raise
        raise _unfetched(backbone, error) from error
    if not isinstance(network, ResNet):
        raise ZooError(f"{backbone} is a {type(network).__name__}; a frame encoder is cut out of a ResNet of timm's.")
    if not pretrained:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.ones_(module.weight)  # timm closes the residual branches
    return network


def _unfetched(backbone: str, error: Exception) -> FetchError:
    return FetchError(
        f"timm could not fetch {backbone} ({error}). Fill the Hugging Face cache on a machine that has a network, or "
        "build it with pretrained=False."
    )


def _keep_dense(stage: nn.Module, backbone: str) -> None:
    """Takes the stride out of a stage, on its main path and on its shortcut."""
    for module in stage.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
        elif isinstance(module, nn.AvgPool2d) and module.stride != 1:  # the shortcut of ResNet-D
            module.kernel_size, module.stride = 1, 1
        elif (
            not any(module.children()) and max(_pair(getattr(module, "stride", 1))) > 1
        ):  # blocks keep theirs as a note
            raise ZooError(
                f"{backbone} strides in a {type(module).__name__}, which cannot be kept dense; take another."
            )


def _pair(stride: Any) -> tuple[int, ...]:
    return tuple(stride) if isinstance(stride, (tuple, list)) else (int(stride),)
