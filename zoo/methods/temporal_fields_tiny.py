"""Temporal fields in small, for the sandbox: the whole, its parts, and the same network without a field."""

from __future__ import annotations

from zoo.methods.base import Recipe
from zoo.methods.charades_two_stream import FrameClassifier
from zoo.methods.temporal_field_model import Field, TemporalFields
from zoo.methods.temporal_field_words import vocabulary_of
from zoo.networks.tiny_frames import TinyFrames
from zoo.registry import register
from zoo.spec import MomentSpec, VideoSpec


@register(
    "temporal_fields_tiny_no_xx",
    paper="sigurdsson2017asynchronous",
    summary="the tiny temporal field without phi_XX: no order of things",
    pairwise=False,
)
@register(
    "temporal_fields_tiny_no_xi",
    paper="sigurdsson2017asynchronous",
    summary="the tiny temporal field without phi_XI: no intent",
    intents=0,
)
@register(
    "temporal_fields_tiny_no_p",
    paper="sigurdsson2017asynchronous",
    summary="the tiny temporal field without progress",
    progress=1,
)
@register(
    "temporal_fields_tiny_semantic",
    paper="sigurdsson2017asynchronous",
    summary="the tiny temporal field without time: what a frame tells of object, verb and progress",
    pairwise=False,
    intents=0,
)
@register(
    "temporal_fields_tiny",
    paper="sigurdsson2017asynchronous",
    summary="a tiny temporal field for the sandbox's household, RGB, 25 frames",
)
def tiny(
    intents: int = 16,
    pairwise: bool = True,
    progress: int = 3,
    scale: float = 1.0,
    decay: float = 0.9,
    memory: int = 50,
    sigma: float = 150.0,
    prior: float = 4e-4,
    hidden: int = 0,
    passes: int = 10,
    rounds: int = 5,
    points: int = 25,
    together: int = 1,
    learning_rate: float = 0.05,
    iterations: int = 2000,
    mapping: list[list[int]] | None = None,
    objects: list[str] | None = None,
    verbs: list[str] | None = None,
    scene_names: list[str] | None = None,
    classes: list[str] | None = None,
) -> TemporalFields:
    """The paper's field on a small residual network, for frames of 64 pixels.

    Args:
        intents: as `temporal_fields`, like all that is not said here.
        pairwise: phi_XX.
        progress: 3, or 1.
        scale: h.
        decay: d.
        memory: of a video.
        sigma: in images.
        prior: lambda.
        hidden: within phi_XI.
        passes: of a test.
        rounds: in each.
        points: frames of a test.
        together: frames of a video in a sample.
        learning_rate: for 64 frames a step; clip gradients to a norm of 5 at so high a rate.
        iterations: steps of the schedule.
        mapping: of classes; the sandbox's by default.
        objects: names.
        verbs: names.
        scene_names: names.
        classes: names.
    """
    network = TinyFrames()
    return TemporalFields(
        network,
        network.out_features,
        spec=tiny_spec(points, together),
        recipe=tiny_recipe(learning_rate, iterations),
        field=Field(
            released=False,
            intents=intents,
            pairwise=pairwise,
            progress=progress,
            scale=scale,
            decay=decay,
            memory=memory,
            sigma=sigma,
            prior=prior,
            hidden=hidden,
            passes=passes,
            rounds=rounds,
        ),
        vocabulary=vocabulary_of(mapping, objects, verbs, scene_names, classes, packaged="sandbox_charades"),
        mu_start=0.01,
        smooth=2,  # of 25 frames on either side, about a second
    )


def tiny_spec(points: int = 25, together: int = 1) -> VideoSpec:
    """Frames of 64 pixels, of which crops leave most: things are small."""
    moments = MomentSpec(points=points, together=together, share=1.0, jitter=0.2, lighting=0.0, area=(0.7, 1.0))
    return VideoSpec(
        frames=1,
        stride=1,
        fps=24,
        clips=1,
        crops=1,
        crop=64,
        short_side=(64, 64),
        test_crop=64,
        test_short_side=64,
        moments=moments,
    )


def tiny_recipe(learning_rate: float, iterations: int) -> Recipe:
    """64 frames a step, the rate falling to nothing."""
    return Recipe(rate=learning_rate, batch=64, iterations=iterations, schedule="cosine", warmup=50, weight_decay=1e-3)


@register(
    "charades_frames_tiny",
    paper="sigurdsson2017asynchronous",
    summary="the tiny temporal field's network without any structure: single frames and a softmax",
)
def frames_alone(
    num_classes: int = 16, points: int = 25, learning_rate: float = 0.05, iterations: int = 2000
) -> FrameClassifier:
    """The tiny temporal field's network with a softmax over classes.

    Args:
        num_classes: of the classifier.
        points: frames of a test.
        learning_rate: for 64 frames a step.
        iterations: steps of the schedule.
    """
    network = TinyFrames()
    return FrameClassifier(
        network,
        network.out_features,
        spec=tiny_spec(points),
        recipe=tiny_recipe(learning_rate, iterations),
        num_classes=num_classes,
        pool="max",
        smooth=2,
        nesterov=True,
    )
