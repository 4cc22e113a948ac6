"""Temporal fields on VGG-16 by name, as the paper and its release have them; the model is in `temporal_field_model`."""

from __future__ import annotations

from typing import Literal

from zoo.methods.base import Recipe
from zoo.methods.charades_two_stream import RGB, TORCH_MEAN
from zoo.methods.temporal_field_model import Field, TemporalFields
from zoo.methods.temporal_field_words import vocabulary_of
from zoo.networks.vgg import Vgg16
from zoo.registry import register
from zoo.spec import MomentSpec

_EPOCH = 1567  # batches of 240 in a tenth of the 3,761,459 pairs of an annotation and a training image within it

_SPEC = RGB.replace(mean=TORCH_MEAN, std=(1.0, 1.0, 1.0))


@register(
    "temporal_fields_flow",
    paper="sigurdsson2017asynchronous",
    summary="temporal fields on VGG-16 as released, stacks of 10 flow fields, 25 frames",
    stream="flow",
)
@register(
    "temporal_fields",
    paper="sigurdsson2017asynchronous",
    summary="temporal fields on VGG-16 as released, RGB, 25 frames",
    intents=60,
)
@register(
    "temporal_fields_paper",
    paper="sigurdsson2017asynchronous",
    summary="temporal fields on VGG-16 as the paper has it, with scenes, RGB, 25 frames",
    released=False,
    scenes=True,
    scale=25.0,
    decay=0.9,
    prior=4e-4,
)
def temporal_fields(
    stream: Literal["rgb", "flow"] = "rgb",
    released: bool = True,
    intents: int = 30,
    pairwise: bool = True,
    progress: int = 3,
    scenes: bool = False,
    hidden: int = 100,
    sigma: float = 150.0,
    scale: float = 0.1,
    decay: float = 0.3,
    memory: int = 50,
    prior: float = 1e-3,
    passes: int = 10,
    rounds: int = 5,
    points: int = 25,
    together: int = 1,
    learning_rate: float = 2.4e-3,
    mapping: list[list[int]] | None = None,
    objects: list[str] | None = None,
    verbs: list[str] | None = None,
    scene_names: list[str] | None = None,
    classes: list[str] | None = None,
) -> TemporalFields:
    """Asynchronous temporal fields on VGG-16.

    Args:
        stream: images, or stacks of flow.
        released: as the Torch release has it, not as the paper says.
        intents: G; 0 leaves phi_XI out.
        pairwise: whether there is phi_XX.
        progress: parts of an activity, 3; 1 leaves them out.
        scenes: whether scenes are told apart.
        hidden: width within phi_XI; 0 makes it the same for all frames.
        sigma: of the kernel in images, 24 a second.
        scale: h, which means of messages are multiplied by.
        decay: d of Eq. 10.
        memory: messages kept of a video.
        prior: lambda of the prior on phi_XI.
        passes: over a video in a test.
        rounds: of a frame's inference in each.
        points: frames of a video in a test.
        together: frames of one video in a training sample; 1 is asynchronous training, more the synchronous one that
            the paper compares with.
        learning_rate: for 240 frames a step. The release's 1e-5 is that of gradients summed over them.
        mapping: ``[object, verb]`` of each class; by default what the names of Charades' classes say, or the data's.
        objects: their names; of Charades by default, as all names.
        verbs: their names.
        scene_names: their names.
        classes: their names.
    """
    moments = MomentSpec(
        streams=(stream,),
        progress="released" if released else "thirds",
        points=points,
        together=together,
    )
    epochs, step = (20, 6) if stream == "rgb" else (80, 30)
    network = Vgg16(3 if stream == "rgb" else 2 * moments.flow)
    model = TemporalFields(
        network,
        network.out_features,
        spec=_SPEC.replace(moments=moments),
        recipe=Recipe(
            rate=learning_rate,
            batch=240,
            iterations=epochs * _EPOCH,
            milestones=tuple(range(step * _EPOCH, epochs * _EPOCH, step * _EPOCH)),
            weight_decay=5e-4 / 240,  # the release's goes with the sum of 240 gradients
        ),
        field=Field(
            released=released,
            intents=intents,
            pairwise=pairwise,
            progress=progress,
            scenes=scenes,
            hidden=hidden,
            sigma=sigma,
            scale=scale,
            decay=decay,
            memory=memory,
            prior=prior,
            passes=passes,
            rounds=rounds,
            compounding=released,
        ),
        vocabulary=vocabulary_of(mapping, objects, verbs, scene_names, classes),
    )
    model.image_backbone = "vgg16.tv_in1k" if stream == "rgb" else None
    return model
