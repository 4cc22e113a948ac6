"""Non-local neural networks (Wang, Girshick, Gupta, He, CVPR 2018).

A ResNet over video, either frame by frame with pooling in time (C2D) or with its kernels inflated over three frames
(I3D), in which *non-local blocks* let every position of a feature map look at every other one in space and time:
``y_i = 1/C(x) sum_j f(x_i, x_j) g(x_j)`` (Eq. 1), ``z_i = W_z y_i + x_i`` (Eq. 6).

The networks are those of the authors' release, because its weights are; where the paper's text says otherwise
(`zoo.networks` notes each place) the release is followed. PySlowFast's and MMAction2's networks differ in padding,
pooling and scale: they are the same parts with other options.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.methods import nonlocal_keys
from zoo.methods.base import Recipe
from zoo.methods.classifier import VideoClassifier
from zoo.networks.nonlocal_block import Extent, Instantiation, NonLocalBlock
from zoo.networks.norm import Norm, fold_state
from zoo.networks.resnet3d import STAGES, Bottleneck, Inflation, Layout, ResNet3d, nonlocal_places
from zoo.registry import register
from zoo.spec import VideoSpec

Clip = Literal["32x2", "8x8", "32x4", "128x1"]
Flavour = Literal["release", "pyslowfast", "pyslowfast_nopool", "mmaction", "mmaction_heavy"]
TrainedOn = Literal["kinetics", "charades"]

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
# The window of 224 is chosen as for Kinetics, in a video scaled by 288 / 224 more: 256..320 becomes 329..411.
CHARADES = {"crop": 288, "short_side": (329, 411), "test_crop": 320, "test_short_side": 320}


class NonLocalNet(VideoClassifier):
    """A C2D or I3D classifier with or without non-local blocks; reads every published format of its weights."""

    @property
    def image_backbone(self) -> str | None:
        """torchvision's ResNet of the same depth; the tiny network has none."""
        blocks = sum(len(getattr(self.trunk, stage).blocks) for stage in STAGES)
        return {16: "resnet50.tv_in1k", 33: "resnet101.tv_in1k"}.get(blocks)

    @staticmethod
    def upstream_keys(state: Mapping[str, Any]) -> dict[str, Tensor]:
        """Published names to ours, whichever release ``state`` is from (see `zoo.methods.nonlocal_keys`)."""
        return nonlocal_keys.convert(state)

    def adapt(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Another network's weights as a start for this one (section 4.1, "Longer clips" and the release).

        Norms are folded where this network's are. The classifier starts fresh, and so do the non-local blocks unless
        both networks have the same ones.
        """
        own = self.state_dict()
        if any(key.endswith("running_mean") for key in state) and not any(key.endswith("running_mean") for key in own):
            state = fold_state(state)
        fresh = {key for key in own if key.startswith("head.")}
        blocks, theirs = ({key for key in keys if ".nonlocal_blocks." in key} for keys in (own, state))
        if blocks != theirs:
            fresh |= blocks
            state = {key: value for key, value in state.items() if key not in theirs}
        return {**state, **{key: own[key] for key in fresh}}


def recipe_of(clip: Clip, flavour: Flavour = "release", recipe: TrainedOn = "kinetics") -> Recipe:
    """Section 4.1 and the release: 64 clips at 0.01 for the short clips, 16 at 0.0025 for the long ones.

    On Charades ("Experiments on Charades") one clip on each GPU, of which eight are assumed, as for the others.
    """
    if recipe == "charades":
        return Recipe(rate=0.00125, batch=8, iterations=200_000, milestones=(75_000, 150_000))
    if flavour in ("pyslowfast", "pyslowfast_nopool"):
        # From scratch: 196 epochs of 234,643 videos, 64 at a time, the first 34 with a rising rate.
        return Recipe(rate=0.1, iterations=718_594, schedule="cosine", warmup=124_654)
    if flavour in ("mmaction", "mmaction_heavy"):
        return Recipe(iterations=384_600, milestones=(153_840, 307_680))  # 100 epochs, steps after 40 and 80
    return Recipe(rate=0.0025, batch=16) if clip in ("32x4", "128x1") else Recipe()


@register("c2d_r50", paper="wang2018nonlocal", aliases=("c2d",))
@register("c2d_r50_8x8", paper="wang2018nonlocal", clip="8x8")
@register("c2d_r50_32x4", paper="wang2018nonlocal", clip="32x4")
@register("c2d_r50_128x1", paper="wang2018nonlocal", clip="128x1")
@register("c2d_r101", paper="wang2018nonlocal", depth=101)
@register("c2d_r101_8x8", paper="wang2018nonlocal", depth=101, clip="8x8")
@register("c2d_r101_32x4", paper="wang2018nonlocal", depth=101, clip="32x4")
@register("c2d_r101_128x1", paper="wang2018nonlocal", depth=101, clip="128x1")
@register("nonlocal_c2d_r50", paper="wang2018nonlocal", aliases=("nonlocal_c2d",), nonlocal_blocks=5)
@register("nonlocal_c2d_r50_8x8", paper="wang2018nonlocal", clip="8x8", nonlocal_blocks=5)
@register("nonlocal_c2d_r50_32x4", paper="wang2018nonlocal", clip="32x4", nonlocal_blocks=5)
@register("nonlocal_c2d_r50_128x1", paper="wang2018nonlocal", clip="128x1", nonlocal_blocks=5)
@register("nonlocal_c2d_r101", paper="wang2018nonlocal", depth=101, nonlocal_blocks=5)
@register("nonlocal_c2d_r101_8x8", paper="wang2018nonlocal", depth=101, clip="8x8", nonlocal_blocks=5)
@register("nonlocal_c2d_r101_32x4", paper="wang2018nonlocal", depth=101, clip="32x4", nonlocal_blocks=5)
@register("nonlocal_c2d_r101_128x1", paper="wang2018nonlocal", depth=101, clip="128x1", nonlocal_blocks=5)
@register("i3d_r50", paper="wang2018nonlocal", aliases=("i3d",), inflate="3x1x1")
@register("i3d_r50_8x8", paper="wang2018nonlocal", inflate="3x1x1", clip="8x8")
@register("i3d_r50_32x4", paper="wang2018nonlocal", inflate="3x1x1", clip="32x4")
@register("i3d_r50_128x1", paper="wang2018nonlocal", inflate="3x1x1", clip="128x1")
@register("i3d_r101", paper="wang2018nonlocal", inflate="3x1x1", depth=101)
@register("i3d_r101_8x8", paper="wang2018nonlocal", inflate="3x1x1", depth=101, clip="8x8")
@register("i3d_r101_32x4", paper="wang2018nonlocal", inflate="3x1x1", depth=101, clip="32x4")
@register("i3d_r101_128x1", paper="wang2018nonlocal", inflate="3x1x1", depth=101, clip="128x1")
@register("nonlocal_i3d_r50", paper="wang2018nonlocal", aliases=("nonlocal_i3d",), inflate="3x1x1", nonlocal_blocks=5)
@register("nonlocal_i3d_r50_8x8", paper="wang2018nonlocal", inflate="3x1x1", clip="8x8", nonlocal_blocks=5)
@register("nonlocal_i3d_r50_32x4", paper="wang2018nonlocal", inflate="3x1x1", clip="32x4", nonlocal_blocks=5)
@register("nonlocal_i3d_r50_128x1", paper="wang2018nonlocal", inflate="3x1x1", clip="128x1", nonlocal_blocks=5)
@register("nonlocal_i3d_r101", paper="wang2018nonlocal", inflate="3x1x1", depth=101, nonlocal_blocks=5)
@register("nonlocal_i3d_r101_8x8", paper="wang2018nonlocal", inflate="3x1x1", depth=101, clip="8x8", nonlocal_blocks=5)
@register(
    "nonlocal_i3d_r101_32x4", paper="wang2018nonlocal", inflate="3x1x1", depth=101, clip="32x4", nonlocal_blocks=5
)
@register(
    "nonlocal_i3d_r101_128x1", paper="wang2018nonlocal", inflate="3x1x1", depth=101, clip="128x1", nonlocal_blocks=5
)
@register("i3d_3x3x3_r50", paper="wang2018nonlocal", inflate="3x3x3")
@register("i3d_3x3x3_r101", paper="wang2018nonlocal", inflate="3x3x3", depth=101)
@register("slowfast_c2d_r50_8x8", paper="fan2020pyslowfast", flavour="pyslowfast_nopool", clip="8x8")
@register("slowfast_i3d_r50_8x8", paper="fan2020pyslowfast", flavour="pyslowfast", inflate="3x1x1", clip="8x8")
@register(
    "slowfast_nonlocal_i3d_r50_8x8",
    paper="fan2020pyslowfast",
    flavour="pyslowfast",
    inflate="3x1x1",
    clip="8x8",
    nonlocal_blocks=5,
)
@register("mmaction_i3d_r50", paper="mmaction2020", flavour="mmaction", inflate="3x1x1")
@register("mmaction_i3d_r50_heavy", paper="mmaction2020", flavour="mmaction_heavy", inflate="3x1x1")
@register("mmaction_nonlocal_i3d_r50", paper="mmaction2020", flavour="mmaction", inflate="3x1x1", nonlocal_blocks=5)
@register(
    "mmaction_nonlocal_i3d_r50_dot_product",
    paper="mmaction2020",
    flavour="mmaction",
    inflate="3x1x1",
    nonlocal_blocks=5,
    instantiation="dot_product",
)
@register(
    "mmaction_nonlocal_i3d_r50_gaussian",
    paper="mmaction2020",
    flavour="mmaction",
    inflate="3x1x1",
    nonlocal_blocks=5,
    instantiation="gaussian",
)
def nonlocal_net(
    inflate: Inflation | None = None,
    depth: int = 50,
    clip: Clip = "32x2",
    nonlocal_blocks: int = 0,
    stages: list[str] | None = None,
    instantiation: Instantiation = "embedded_gaussian",
    attention: Extent = "spacetime",
    sub_sample: bool = True,
    pool_position: Literal["before", "after"] | None = None,
    scale: bool | None = None,
    norm: Norm | None = None,
    flavour: Flavour = "release",
    num_classes: int = 400,
    dropout: float = 0.5,
    learning_rate: float | None = None,
    multilabel: bool = False,
    combine: Literal["max", "mean"] = "max",
    recipe: TrainedOn = "kinetics",
) -> NonLocalNet:
    """C2D or I3D ResNet of tables 5.2 to 5.4, with or without non-local blocks.

    Args:
        inflate: None for C2D; ``"3x1x1"`` or ``"3x3x3"`` for the two inflations of table 5.2e.
        depth: 50 or 101.
        clip: frames x stride. The long clips (32x4, 128x1) have frozen norms and, in res3, groups of 4 frames that
            attend to themselves only.
        nonlocal_blocks: 0, 1, 5 or 10, at the paper's places (table 5.2c).
        stages: with one block, the stage that it is in (table 5.2b); res4 by default.
        instantiation: the pairwise function (table 5.2a).
        attention: over space, time or both (table 5.2d).
        sub_sample: whether the keys have half the height and width.
        pool_position: whether they are pooled ``"before"`` they are projected (the release) or ``"after"`` (the paper's
            text, MMAction2); the flavour's own by default.
        scale: whether the embedded Gaussian's affinity is divided by the root of its width (the release) or not (the
            paper's Eq. 5.3, MMAction2); the flavour's own by default.
        norm: ``"bn"`` trains batch norm, ``"frozen"`` keeps its statistics, ``"affine"`` has folded them away; by
            default ``"bn"`` for the short clips and ``"affine"`` for the long ones, as the release has them.
        flavour: whose padding, pooling and scale; ``"mmaction_heavy"`` also inflates every residual block.
        num_classes: of the head.
        dropout: before the head.
        learning_rate: at the recipe's batch, in place of the recipe's own.
        multilabel: whether a video has several labels; a sigmoid of each class takes the softmax's place.
        combine: with several labels, what of the views' scores is the video's: the largest or their mean.
        recipe: whose sizes, rate and schedule: those for training on ``"kinetics"``, or for fine-tuning on
            ``"charades"``, where the paper takes clips of 128x1.
    """
    frames, stride = map(int, clip.split("x"))
    long = clip in ("32x4", "128x1")
    norm = norm or ("affine" if long else "bn")
    mmaction = flavour in ("mmaction", "mmaction_heavy")
    options: dict[str, Any] = {
        "instantiation": instantiation,
        "attention": attention,
        "sub_sample": sub_sample,
        "pool_position": pool_position or ("after" if mmaction else "before"),
        "scale": not mmaction if scale is None else scale,
        "out_bias": not mmaction,
    }
    layout = flavour if flavour != "release" else "sparse" if clip in ("8x8", "32x4") else "paper"
    trunk = ResNet3d(
        depth,
        inflate=inflate,
        inflate_all=flavour == "mmaction_heavy",
        layout=layout,
        nonlocal_after=nonlocal_places(depth, nonlocal_blocks, stages),
        nonlocal_options=options,
        # The release groups res3 where norms are frozen; the two other extents leave no clip to cut.
        temporal_groups={"res3": 4} if long and norm != "bn" and attention == "spacetime" else None,
        norm=norm,
    )
    sizes = CHARADES if recipe == "charades" else {}
    spec = VideoSpec(frames=frames, stride=stride, **sizes, **(IMAGENET if mmaction else {}))
    return NonLocalNet(
        trunk,
        spec=spec,
        num_classes=num_classes,
        dropout=dropout,
        # The map of a training crop. MMAction2 averages whatever map a larger crop gives.
        window=None if mmaction else spec.crop // 32,
        recipe=recipe_of(clip, flavour, recipe).with_rate(learning_rate),
        multilabel=multilabel,
        combine=combine,
    )


@register("i3d_tiny", paper="wang2018nonlocal", summary="a tiny I3D for the sandbox")
@register("nonlocal_i3d_tiny", paper="wang2018nonlocal", nonlocal_blocks=2, summary="its twin with 2 non-local blocks")
def tiny(
    nonlocal_blocks: int = 0,
    num_classes: int = 8,
    learning_rate: float | None = None,
    multilabel: bool = False,
    combine: Literal["max", "mean"] = "max",
) -> NonLocalNet:
    """Under two hundred thousand parameters on 18 x 2 frames of 40 pixels, trained on the sandbox in minutes.

    Its convolutions see seven frames (all but the first 1x7x7 one are an I3D's) and keep all of time, so that events
    further apart than that meet nowhere but in a non-local block.

    Args:
        nonlocal_blocks: 0 for none, 1 after res4, 2 after res3 and res4.
        num_classes: of the head; the sandbox has 8.
        learning_rate: at the recipe's batch, in place of the recipe's own.
        multilabel: whether a video has several labels.
        combine: with several labels, what of the views' scores is the video's.
    """
    if nonlocal_blocks not in (0, 1, 2):
        raise ZooError(f"the tiny network has room for 0, 1 or 2 non-local blocks, not {nonlocal_blocks!r}.")
    trunk = ResNet3d(
        inflate="3x1x1",
        layout=Layout((1, 7, 7), (1, 2, 2), (1, 3, 3), (1, 2, 2), (0, 0, 0), 1),
        nonlocal_after=dict.fromkeys(("res4", "res3")[:nonlocal_blocks], (0,)),
        nonlocal_options={"sub_sample": False},
        widths=(16, 16, 32, 64),
        blocks=(1, 1, 1, 1),
    )
    _start_from_scratch(trunk)
    spec = VideoSpec(
        frames=18,
        stride=2,
        crop=40,
        short_side=(44, 44),
        test_crop=40,
        test_short_side=44,
        clips=1,  # the first: a clip that wraps round would put the end before the beginning
        crops=1,
        flip=False,  # a left turn in the mirror is a right one
    )
    recipe = Recipe(
        rate=learning_rate if learning_rate is not None else 0.1, batch=32, iterations=768, schedule="cosine", warmup=48
    )
    return NonLocalNet(
        trunk,
        spec=spec,
        num_classes=num_classes,
        dropout=0.0,
        recipe=recipe,
        multilabel=multilabel,
        combine=combine,
    )


def _start_from_scratch(trunk: ResNet3d) -> None:
    """Fresh weights for a network that no pretrained one stands behind.

    The release's values keep a pretrained network's answers: every residual branch ends in a norm of scale zero, and
    the block's projections are so small (0.01) that the epsilon of its norm swallows them. Here the branches are open,
    and the projections have unit gain as the paper's text has it (He); a block still starts as the identity.
    """
    for module in trunk.modules():
        if isinstance(module, Bottleneck):
            nn.init.ones_(module.norm3.weight)
        elif isinstance(module, NonLocalBlock):
            for projection in (module.theta, module.phi, module.g, module.out):
                nn.init.kaiming_normal_(projection.weight, nonlinearity="linear")
