"""The two-stream baselines on Charades (Sigurdsson et al., CVPR 2017, section 5.1): each frame by itself.

A network that was trained on images (or on flow) learns to tell which of 157 activities a frame shows, with softmax
and cross-entropy: every pair of an annotation and a frame within it is a sample of one class. A test takes the softmax
of 25 frames and their mean; the paper's text has the maximum there, the released code the mean. The paper's "RGB++" and
"Two-Stream++" are these, and "Two-Stream Extended" is the same with more training of the flow stream.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import timm
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from zoo.errors import ZooError
from zoo.methods.base import Recipe
from zoo.methods.charades_keys import one_linear, vgg_weights, with_counters, without_module
from zoo.methods.moments import MomentModel
from zoo.methods.two_streams import Fusion, TwoStreams
from zoo.networks.vgg import Vgg16, vgg_from_timm
from zoo.registry import create, register
from zoo.spec import MomentSpec, VideoSpec

PAIRS = 3_761_459  # of an annotation of the training videos and an image within it, of which every fourth counts

#: What the Torch releases subtract from R, G and B in 0..1, in this order (the numbers are those of B, G, R).
TORCH_MEAN = (103.939 / 255, 116.779 / 255, 123.68 / 255)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

RGB = VideoSpec(
    frames=1,
    stride=1,
    fps=24,
    crop=224,
    short_side=(256, 256),
    test_crop=224,
    test_short_side=256,
    clips=1,
    crops=1,
    moments=MomentSpec(lighting=0.0),
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
)
FLOW = RGB.replace(moments=MomentSpec(streams=("flow",), share=0.2), flip=False)

Release = Literal["pytorch", "torch"]
Pool = Literal["mean", "max"]


def recipe(rate: float, batch: int, epochs: int, share: float, every: int, decay: float = 1e-4) -> Recipe:
    """A recipe in epochs of a share of all samples, the rate divided by ten after ``every`` of them."""
    steps = PAIRS * share / batch
    milestones = tuple(round(steps * epoch) for epoch in range(every, epochs, every))
    return Recipe(rate, batch, round(steps * epochs), milestones=milestones, weight_decay=decay)


#: By release and stream: the ports', and the Torch release's. That one adds up the gradients of four batches of 64,
#: each the mean of its samples, so that its 1e-3 and 5e-3 are four times as much here, and its decay of 5e-4 a quarter.
RECIPES = {
    ("pytorch", "rgb"): recipe(1e-3, 64, epochs=20, share=0.1, every=6),
    ("pytorch", "flow"): recipe(5e-3, 64, epochs=40, share=0.2, every=15),
    ("torch", "rgb"): recipe(4e-3, 256, epochs=10, share=0.1, every=30, decay=5e-4 / 4),
    ("torch", "flow"): recipe(2e-2, 256, epochs=40, share=0.2, every=15, decay=5e-4 / 4),
}


class FrameClassifier(MomentModel):
    """An image network with a linear classifier."""

    starts_from_files = True
    smallest = 32  # side of a frame that the network takes

    def __init__(
        self,
        backbone: nn.Module,
        features: int,
        *,
        spec: VideoSpec,
        recipe: Recipe,
        num_classes: int = 157,
        pool: Pool = "mean",
        smooth: int = 0,
        nesterov: bool = False,
    ) -> None:
        """
        Args:
            backbone: frames to features.
            features: how many.
            spec: what it wants to eat.
            recipe: how it is trained.
            num_classes: of the classifier.
            pool: how the frames' probabilities become a video's.
            smooth: half width, in test frames, of the average over time of ``point_map_post``; 0 leaves that out.
            nesterov: SGD with Nesterov's momentum, as in the Torch release.
        """
        super().__init__(spec=spec, recipe=recipe, num_classes=num_classes, smooth=smooth)
        if pool not in ("mean", "max"):
            raise ZooError(f"pool must be 'mean' or 'max', got {pool!r}.")
        self.backbone = backbone
        self.head = nn.Linear(features, num_classes)
        self.pool, self.nesterov = pool, nesterov
        self.pooling = f"softmax, {'mean' if pool == 'mean' else 'maximum'} over the frames"

    def input_shape(self, size: int | None = None) -> tuple[int, ...]:
        """Of a sample, but not below what the network takes."""
        return super().input_shape(max(size or self.spec.crop, self.smallest))

    def forward(self, frames: Tensor) -> Tensor:
        """Normalised frames ``[N, C, H, W]`` to logits ``[N, num_classes]``."""
        return self.head(self.backbone(frames))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        loss = cross_entropy(self(self.inputs(batch)), batch["label"])
        self.log("train_loss", loss, prog_bar=True, batch_size=len(batch["label"]))
        return loss

    def scores(self, batch: dict[str, Any]) -> list[tuple[Tensor, Tensor]]:
        """Each frame's probabilities, and their mean or maximum."""
        probabilities = self(self.inputs(batch)).softmax(-1).split(batch["lengths"].tolist())
        return [(p.mean(0) if self.pool == "mean" else p.amax(0), p) for p in probabilities]

    def adapt(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Another classifier's network under a fresh head."""
        own = self.state_dict()
        return {**state, **{key: own[key] for key in ("head.weight", "head.bias")}}

    def start_from_image(self, state: Mapping[str, Tensor]) -> None:
        """Take an image classifier's weights of timm's but its head."""
        own = self.backbone.state_dict()
        self.backbone.load_state_dict({key: value for key, value in state.items() if key in own})

    @staticmethod
    def upstream_keys(state: Mapping[str, Any]) -> dict[str, Tensor]:
        """torchvision's names, with or without ``module.``, to ours; Inception's auxiliary classifier is left out."""
        names = {key: value for key, value in without_module(state).items() if not key.startswith("AuxLogits.")}
        names = {f"head.{k[3:]}" if k.startswith("fc.") else f"backbone.{k}": v for k, v in names.items()}
        return with_counters(names)


class VggClassifier(FrameClassifier):
    """VGG-16 with a linear classifier."""

    @staticmethod
    def upstream_keys(state: Mapping[str, Any]) -> dict[str, Tensor]:
        """Lua Torch's and the ports' files, see `zoo.methods.charades_keys`, to ours."""
        vgg, rest = vgg_weights(state)
        return {**{f"backbone.{key}": value for key, value in vgg.items()}, **one_linear(rest)}

    def start_from_image(self, state: Mapping[str, Tensor]) -> None:
        """Take timm's VGG-16."""
        self.backbone.load_state_dict(vgg_from_timm(state))


@register("charades_two_stream_rgb", paper="sigurdsson2017asynchronous", stream="rgb")
@register("charades_two_stream_flow", paper="sigurdsson2017asynchronous", stream="flow")
def two_stream(
    stream: Literal["rgb", "flow"] = "rgb",
    num_classes: int = 157,
    pool: Pool = "mean",
    points: int = 25,
    smooth: int = 0,
    release: Release = "pytorch",
    learning_rate: float | None = None,
) -> VggClassifier:
    """VGG-16 on single frames, or on stacks of ten fields of flow.

    Args:
        stream: of the two.
        num_classes: of the classifier.
        pool: how 25 frames become a video's score.
        points: frames that a test looks at.
        smooth: half width of the average over time that localisation is scored after, too; 15 of 75 frames.
        release: whose recipe and colours: the port's, or those of the Torch code.
        learning_rate: in place of the recipe's own.
    """
    spec = RGB if stream == "rgb" else FLOW
    spec = spec.replace(moments=dataclasses.replace(spec.moments, points=points))
    if release == "torch":
        moments = dataclasses.replace(spec.moments, lighting=0.1)
        spec = spec.replace(moments=moments, mean=TORCH_MEAN, std=(1.0, 1.0, 1.0))
    network = Vgg16(3) if stream == "rgb" else Vgg16(2 * spec.moments.flow, dropout=(0.9, 0.8))
    model = VggClassifier(
        network,
        network.out_features,
        spec=spec,
        recipe=RECIPES[release, stream].with_rate(learning_rate),
        num_classes=num_classes,
        pool=pool,
        smooth=smooth,
        nesterov=release == "torch",
    )
    model.image_backbone = "vgg16.tv_in1k" if stream == "rgb" else None
    return model


@register("charades_resnet152", paper="sigurdsson2017asynchronous", backbone="resnet152")
@register("charades_inception_v3", paper="sigurdsson2017asynchronous", backbone="inception_v3")
def frame_classifier(
    backbone: str = "resnet152",
    num_classes: int = 157,
    pool: Pool = "mean",
    points: int = 25,
    smooth: int = 0,
    learning_rate: float | None = None,
) -> FrameClassifier:
    """A later image network of timm's in place of VGG-16, on single RGB frames, as the ports have it.

    Args:
        backbone: timm's name.
        num_classes: of the classifier.
        pool: how 25 frames become a video's score.
        points: frames that a test looks at.
        smooth: half width of the average over time that localisation is scored after, too; 15 of 75 frames.
        learning_rate: in place of the recipe's own.
    """
    network = timm.create_model(backbone, num_classes=0)
    spec, batch = RGB.replace(moments=dataclasses.replace(RGB.moments, points=points)), 50
    if backbone.startswith("inception"):
        # The ports give ImageNet's mean and deviation, which torchvision's network turns into these before it begins.
        colours = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
        spec = spec.replace(crop=299, test_crop=299, test_short_side=341, short_side=(341, 341), **colours)
        batch = 64
    model = FrameClassifier(
        network,
        network.num_features,
        spec=spec,
        recipe=recipe(1e-3, batch, epochs=20, share=0.1, every=6).with_rate(learning_rate),
        num_classes=num_classes,
        pool=pool,
        smooth=smooth,
    )
    model.smallest = 75 if backbone.startswith("inception") else 32
    model.image_backbone = backbone if "." in backbone else f"{backbone}.tv_in1k"
    return model


@register("charades_two_stream_rgb_tiny", paper="sigurdsson2017asynchronous", stream="rgb")
@register("charades_two_stream_flow_tiny", paper="sigurdsson2017asynchronous", stream="flow")
def tiny(
    stream: Literal["rgb", "flow"] = "rgb",
    num_classes: int = 157,
    channels: int = 16,
    hidden: int = 128,
    crop: int = 64,
    points: int = 25,
    share: float = 1.0,
    pool: Pool = "mean",
    smooth: int = 0,
    batch: int = 64,
    iterations: int = 1000,
    learning_rate: float | None = None,
) -> VggClassifier:
    """A small VGG of four convolutions, for the sandbox.

    Args:
        stream: RGB or flow.
        num_classes: of the classifier.
        channels: of the first block.
        hidden: width of the fully connected layers.
        crop: side of a frame.
        points: frames that a test looks at.
        share: of the samples that an epoch draws.
        pool: how frames become a video's score.
        smooth: half width of the average over time that localisation is scored after, too.
        batch: frames in a step of its recipe.
        iterations: steps of its recipe.
        learning_rate: in place of the recipe's own.
    """
    moments = MomentSpec((stream,), points=points, share=share, lighting=0.0, area=(0.5, 1.0))
    spec = RGB.replace(
        crop=crop, test_crop=crop, short_side=(crop, crop), test_short_side=crop, moments=moments, flip=stream == "rgb"
    )
    network = Vgg16(
        3 if stream == "rgb" else 2 * moments.flow,
        widths=[channels * n for n in (1, 2, 4, 4)],
        blocks=(1, 1, 1, 1),
        hidden=hidden,
        side=crop // 16,
    )
    return VggClassifier(
        network,
        hidden,
        spec=spec,
        recipe=Recipe(0.02, batch, iterations, "cosine", warmup=min(20, iterations // 10)).with_rate(learning_rate),
        num_classes=num_classes,
        pool=pool,
        smooth=smooth,
    )


class TwoStreamClassifier(TwoStreams):
    """The two classifiers of single frames."""

    def forward(self, frames: Tensor) -> Tensor:
        """Normalised frames ``[N, 3 + 2F, H, W]``, RGB before flow, to logs of fused probabilities ``[N, C]``."""
        return self.fuse(self.rgb(frames[:, :3]).softmax(-1), self.flow(frames[:, 3:]).softmax(-1)).log()


@register("charades_two_stream", paper="sigurdsson2017asynchronous")
def both_streams(
    num_classes: int = 157,
    pool: Pool = "mean",
    fusion: Fusion = "mean",
    points: int = 25,
    smooth: int = 0,
    release: Release = "pytorch",
) -> TwoStreamClassifier:
    """VGG-16 on RGB and on flow, trained apart, their scores fused: "Two-Stream++" and "Two-Stream Extended".

    Args:
        num_classes: of the classifiers.
        pool: how 25 frames become a video's score.
        fusion: of the two streams' scores: the released mean, or the paper's product.
        points: frames that a test looks at.
        smooth: half width of the average over time that localisation is scored after, too; 15 of 75 frames.
        release: whose colours.
    """
    options = {"num_classes": num_classes, "pool": pool, "points": points, "release": release}
    streams = (create(f"charades_two_stream_{stream}", **options) for stream in ("rgb", "flow"))
    return TwoStreamClassifier(*streams, fusion, smooth)


@register("charades_two_stream_tiny", paper="sigurdsson2017asynchronous")
def both_tiny(
    num_classes: int = 157,
    channels: int = 16,
    hidden: int = 128,
    crop: int = 64,
    points: int = 25,
    pool: Pool = "mean",
    fusion: Fusion = "mean",
    smooth: int = 0,
) -> TwoStreamClassifier:
    """Two small classifiers, of RGB and of flow, for the sandbox.

    Args:
        num_classes: of the classifiers.
        channels: of the first block.
        hidden: width of the fully connected layers.
        crop: side of a frame.
        points: frames that a test looks at.
        pool: how frames become a video's score.
        fusion: of the two streams' scores.
        smooth: half width of the average over time that localisation is scored after, too.
    """
    options = {"num_classes": num_classes, "channels": channels, "hidden": hidden, "crop": crop, "points": points}
    streams = (create(f"charades_two_stream_{stream}_tiny", pool=pool, **options) for stream in ("rgb", "flow"))
    return TwoStreamClassifier(*streams, fusion, smooth)
