"""From a name to a model with weights in it: where the registry, the methods and the hub meet."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo import registry
from zoo.data.labels import class_names
from zoo.errors import FetchError, UnknownNameError, WeightsError
from zoo.hub.fetch import local_weights
from zoo.hub.manifest import Checkpoint, manifest
from zoo.hub.upstream import read_foreign
from zoo.hub.weights import load_strict, read_weights, save_weights
from zoo.methods.base import ZooModule
from zoo.networks.cost import cost
from zoo.papers import PAPERS
from zoo.spec import VideoSpec

Weights = str | Path | Sequence[str | Path]


def load(name: str, weights: Weights | None = None, **arguments: Any) -> ZooModule:
    """A model with weights, in eval mode; see `zoo.load`."""
    model = _load(name, weights, arguments)
    model.loader = load  # some need another model at hand, such as the network of the features that they score
    return model


def _load(name: str, weights: Weights | None, arguments: dict[str, Any]) -> ZooModule:
    if str(name).startswith("hf://"):
        return _from_repository(name, arguments)
    if str(name).endswith(".ckpt"):
        return _from_lightning(Path(name), arguments)
    model = registry.entry(str(name).partition(".")[0]).name
    if weights in (None, "default") and "." not in str(name) and not manifest().for_model(model):
        weights = on_paper(model, **arguments).default_weights
    if isinstance(weights, (list, tuple)):
        return _from_streams(model, weights, arguments)
    if weights == "none":
        return registry.create(model, **arguments).eval()
    if weights is None or weights == "default":
        return _from_checkpoint(model, _named(str(name)), arguments)
    if weights == "imagenet" or str(weights).startswith("timm:"):
        return _from_imagenet(model, str(weights), arguments)
    if (path := Path(weights)).is_file():
        return _from_file(model, path, arguments)
    try:
        found = _named(str(weights))
    except UnknownNameError as error:
        raise FetchError(
            f"weights {str(weights)!r}: no such file, and no checkpoint has that name ({error}) "
            "'imagenet' and 'timm:NAME' start from inflated 2D weights."
        ) from None
    return _from_checkpoint(model, found, arguments)


def fuse(a: Any, b: Any, how: str = "mean") -> ZooModule:
    """A model of RGB and one of flow as one; see `zoo.fuse`."""
    from zoo.methods.two_streams import fused

    return fused(*(load(str(model)) if isinstance(model, (str, Path)) else model for model in (a, b)), how)


def convert(model: str, source: Path, target: Path) -> int:
    """Turn a published file of ``model`` into safetensors at ``target``; returns the number of tensors.

    Raises:
        WeightsError: the file is unsafe, broken, of an unknown format, or does not fit the model.
    """
    state, said = _ours(model, read_foreign(source)[1])
    module = registry.create(model, **on_paper(model).asked_by(state, said))
    load_strict(module, state)
    about = {"model": module.name, "arguments": module.arguments, "spec": module.spec.to_dict(), "source": source.name}
    save_weights(target, module.state_dict(), about)
    return len(state)


def publish(
    name: str, repo: str, *, weights: str | None = None, license: str | None = None, private: bool = False
) -> str:
    """Push a model with its card to ``repo`` (``org/name``) on the hub; returns its address."""
    from zoo.hub.publish import publish

    return publish(load(name, weights), repo, license=license, private=private)


def verify(name: str) -> Any:
    """Hash, strict load and proof of one checkpoint; see `zoo.verify`."""
    from zoo.hub.proof import verify

    if name.startswith("hf://"):
        from zoo.hub.publish import read_repo, verify_repo

        config, _ = read_repo(name)
        return verify_repo(name, registry.create(config["model"], **config["arguments"]))
    found = _named(name)

    def build(about: Mapping[str, Any]) -> ZooModule:
        return registry.create(found.model, **_asked(found, about))

    return verify(found, build, **_conversion(found.model))


@dataclass(frozen=True)
class Info:
    """What is known of a model.

    Attributes:
        name: the registered name.
        summary: one line.
        paper: title, authors, venue and year, or what the method gave as its citation key.
        spec: what it wants to eat.
        protocol: what decides its test score.
        parameters: learned and frozen numbers in the network.
        multiply_adds: of one training-size clip, counted with every product of the network.
        options: the builder's arguments with their defaults, as `zoo.create` and ``--model.NAME`` take them.
        checkpoints: every set of weights, the default first.
    """

    name: str
    summary: str
    paper: str
    spec: VideoSpec
    protocol: dict[str, Any]
    parameters: int
    multiply_adds: int
    options: dict[str, Any]
    checkpoints: list[Checkpoint]

    def facts(self) -> dict[str, str]:
        """For people: a label and a text each."""
        s = self.spec
        rate = f" at {s.fps:g} a second" if s.fps else ""
        seen = f"{s.frames} frames, every {s.stride}{rate}; {s.crop} x {s.crop} pixels; RGB"
        if s.features:
            clips = f"{s.features.clips} clips of a video" if s.pixels else "annotations only"
            seen = f"features of {s.features.dim} numbers; {clips}"
        elif s.moments:
            streams = {"rgb": "RGB", "flow": f"{s.moments.flow} fields of optical flow"}
            kinds = " and ".join(streams[stream] for stream in s.moments.streams)
            seen = f"single frames, one in {s.moments.every} of {s.fps:g} a second; {s.crop} x {s.crop} pixels; {kinds}"
        classes = " --model.num_classes N" if "num_classes" in self.options else ""
        return {
            "what": self.summary,
            "paper": self.paper,
            "input": seen,
            "test": self.protocol["in_words"],
            "parameters": f"{self.parameters:,}",
            "multiply-adds": f"{self.multiply_adds / 1e9:.2f} G a clip",
            "options": ", ".join(f"{name}={value}" for name, value in self.options.items()),
            "train": f"zoo fit --model {self.name} --data NAME --data.root ROOT{classes}",
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return {
            "name": self.name,
            "summary": self.summary,
            "paper": self.paper,
            "spec": self.spec.to_dict(),
            "protocol": self.protocol,
            "parameters": self.parameters,
            "multiply_adds": self.multiply_adds,
            "options": self.options,
            "checkpoints": [
                {
                    "name": c.name,
                    "source": str(c.source),
                    "license": c.license,
                    "code_license": c.code_license,
                    "trained_on": list(c.trained_on),
                    "reported": c.reported.scores if c.reported else {},
                    "measured": c.measured,
                    "notes": c.notes,
                }
                for c in self.checkpoints
            ],
        }


def info(name: str) -> Info:
    """What is known of a model; see `Info`. Nothing is downloaded and no memory is spent on weights."""
    entry = registry.entry(name.partition(".")[0])
    module = on_paper(entry.name)
    spec = module.spec
    parameters, multiply_adds = cost(module, (1, *module.input_shape()))
    options = {p.name: p.default for p in inspect.signature(registry.builder(entry.name)).parameters.values()}
    checkpoints = manifest().for_model(entry.name)
    return Info(
        entry.name,
        entry.summary,
        PAPERS.get(entry.paper, entry.paper),
        spec,
        module.protocol(),
        parameters,
        multiply_adds,
        options,
        checkpoints,
    )


def _named(name: str) -> Checkpoint:
    """A checkpoint by ``model.tag``, or a model's default by ``model``; aliases are as good as names."""
    model, _, tag = name.partition(".")
    model = registry.entry(model).name
    return manifest().get(f"{model}.{tag}") if tag else manifest().default(model)


def _from_checkpoint(model: str, found: Checkpoint, arguments: dict[str, Any]) -> ZooModule:
    state, about = read_weights(local_weights(found, **_conversion(found.model)))
    labels = class_names(found.labels) if found.labels else None
    if found.model != model:  # a start for training, as the long-clip models start from the short-clip ones
        module = registry.create(model, **{**_classes(found, model), **arguments})
        return _fill(module, module.adapt(state), module.labels)
    asked = _asked(found, about)
    module = registry.create(model, **{**asked, **arguments})
    module.spec = _spec(module, found.spec, asked)
    module = _fill(module, state, labels)
    # With another head it is no longer what the entry says.
    if getattr(module, "num_classes", None) == found.num_classes:
        module.checkpoint = found
    return module


def _from_file(model: str, path: Path, arguments: dict[str, Any]) -> ZooModule:
    kind, raw = read_foreign(path)
    about = _said(kind, path)
    theirs = about.get("model") or about.get("checkpoint", "").partition(".")[0] or about.get("name") or model
    if theirs != model:
        if not on_paper(model).starts_from_files:
            raise WeightsError(f"{path} holds weights of {theirs}, not of {model}: zoo.load({theirs!r}, weights=...).")
        module = registry.create(model, **arguments)
        return _fill(module, module.adapt(_ours(theirs, raw)[0]), module.labels)
    state, said = _ours(model, raw)
    said |= about.get("arguments") or {}
    module = registry.create(model, **{**on_paper(model).asked_by(state, said), **arguments})
    module.spec = _spec(module, about.get("spec") or {}, said)
    labels = about.get("labels")
    return _fill(module, state, class_names(labels) if isinstance(labels, str) else labels)


def _from_streams(model: str, weights: Sequence[str | Path], arguments: dict[str, Any]) -> ZooModule:
    """A model of several streams, with the weights of a model of its own in each."""
    module = on_paper(model, **arguments)  # it consists of its streams, which are about to be others
    streams = getattr(module, "streams", {})
    if len(weights) != len(streams):
        wanted = f"has {len(streams)} streams ({', '.join(streams)})" if streams else "takes one set of weights"
        raise WeightsError(f"{len(weights)} sets of weights were given, and {model} {wanted}.")
    filled = []
    for (role, stream), own in zip(streams.items(), weights, strict=True):
        if str(own) in manifest() and (theirs := manifest()[str(own)].model) != stream.name:
            raise WeightsError(f"{own} are weights of {theirs}, and this stream of {model} is a {stream.name}.")
        # What nobody asked for is as the stream's weights have it, such as the number of classes.
        asked = {k: v for k, v in stream.arguments.items() if k in arguments}
        asked |= arguments.get(module.stream_options.get(role)) or {}
        filled.append(load(stream.name, own, **asked))
    module.take(*filled)
    return module.eval()


def _said(kind: str, path: Path) -> dict[str, Any]:
    """What a file of our own says of itself; nothing of anybody else's."""
    if kind == "safetensors":
        return read_weights(path)[1]
    return (torch.load(path, map_location="cpu", weights_only=True).get("zoo") or {}) if kind == "lightning" else {}


def _from_lightning(path: Path, arguments: dict[str, Any]) -> ZooModule:
    """A checkpoint that `zoo fit` wrote knows its own name, arguments, spec and class names."""
    _, state = read_foreign(path)
    about = _said("lightning", path)
    if not about:
        raise WeightsError(f"{path} does not say which model it is; use zoo.load(MODEL, weights={str(path)!r}).")
    return _as_it_was(about["name"], state, about, arguments)


def _from_repository(uri: str, arguments: dict[str, Any]) -> ZooModule:
    from zoo.hub.publish import read_repo

    config, path = read_repo(uri)
    return _as_it_was(config["model"], read_weights(path)[0], config, arguments)


def _as_it_was(
    model: str, state: Mapping[str, Tensor], about: Mapping[str, Any], arguments: dict[str, Any]
) -> ZooModule:
    """A model built as it says of itself, but for what other arguments ask for."""
    said = about["arguments"]
    module = registry.create(model, **{**said, **on_paper(model).asked_by(state, said), **arguments})
    module.spec = _spec(module, about["spec"], said)
    return _fill(module, state, about["labels"])


def _from_imagenet(model: str, weights: str, arguments: dict[str, Any]) -> ZooModule:
    """Start from an image network of timm's or torchvision's.

    ``"imagenet"`` is the model's own (of most torchvision's ResNet of the same depth), ``"timm:NAME"`` any other of
    that shape.
    """
    module = registry.create(model, **arguments)
    if module.image_backbone is None:
        raise WeightsError(f"{model} has no counterpart among the image networks; train it from scratch.")
    source = module.image_backbone if weights == "imagenet" else weights
    library, name = ("torchvision", source[12:]) if source.startswith("torchvision:") else ("timm", source)
    name = name.removeprefix("timm:")
    try:
        state = _torchvision_state(name) if library == "torchvision" else _timm_state(name)
    except Exception as error:  # the hub's and the network's errors share no parent
        cache = "torch's cache (~/.cache/torch/hub)" if library == "torchvision" else "the Hugging Face cache"
        raise FetchError(
            f"{library} could not fetch {name} ({error}). Fill {cache} on a machine that has a network, or start "
            "without imagenet weights."
        ) from error
    module.start_from_image(state)
    return module.eval()


def _timm_state(name: str) -> dict[str, Tensor]:
    import timm

    return timm.create_model(name, pretrained=True).state_dict()


def _torchvision_state(name: str) -> dict[str, Tensor]:
    """Of a network that timm does not have, hashed by torchvision and read without executing anything."""
    from torchvision.models import get_model_weights

    return get_model_weights(name).DEFAULT.get_state_dict(progress=False, check_hash=True, weights_only=True)


def _fill(module: ZooModule, state: Mapping[str, Tensor], labels: Any) -> ZooModule:
    """All of the state into the module; only a head of another width stays fresh, and what weights may lack."""
    theirs, classes = module.asked_by(state, {}).get("num_classes"), getattr(module, "num_classes", None)
    replaced = theirs is not None and classes is not None and theirs != classes
    fresh = {k: v for k, v in module.state_dict().items() if module.may_lack and k.startswith(module.may_lack)}
    load_strict(module, {**fresh, **state}, replaced_head=replaced)
    module.labels = tuple(labels) if labels and not replaced else None
    return module.eval()


def on_paper(model: str, **arguments: Any) -> ZooModule:
    """The model without memory for its weights: what it says of itself, and its shapes."""
    with torch.device("meta"):
        return registry.create(model, **arguments)


def _conversion(model: str) -> dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]]:
    """For `local_weights`: a published file's weights under our names, and the arguments that go with them."""
    return {"convert": lambda raw: _ours(model, raw)[0], "arguments": lambda raw: _ours(model, raw)[1]}


def _ours(model: str, raw: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Any published state dict of a model under our names (ours are left as they are), and what it says of the model.

    That is the builder's arguments, as `ZooModule.upstream_arguments` reads them.
    """
    module = on_paper(model)
    if set(module.state_dict()).isdisjoint(raw):
        return module.upstream_keys(raw), module.upstream_arguments(raw)
    return dict(raw), {}


def _spec(module: ZooModule, theirs: Mapping[str, Any], arguments: Mapping[str, Any]) -> VideoSpec:
    """A model's spec with what its weights say of theirs, in all that it was built for as they were.

    Args:
        module: as it was built.
        theirs: fields of the spec that come with the weights.
        arguments: what the weights' model was built with: a field that is another with the module's arguments was
            asked for, and stays.
    """
    if not theirs:
        return module.spec
    own, as_theirs = module.spec.to_dict(), on_paper(module.name, **arguments).spec.to_dict()
    return VideoSpec.from_dict({**own, **{k: v for k, v in theirs.items() if own.get(k) == as_theirs.get(k)}})


def _asked(found: Checkpoint, about: Mapping[str, Any]) -> dict[str, Any]:
    """The builder's arguments that a checkpoint asks for, by the manifest and by what its file says."""
    return on_paper(found.model).asked_by({}, about.get("arguments") or {}) | _classes(found, found.model)


def _classes(checkpoint: Checkpoint, model: str) -> dict[str, int]:
    """The width of a checkpoint's classifier, where it has one and the model's builder wants to know.

    A temporal field's does not: its classes are those of its mapping.
    """
    told = "num_classes" in inspect.signature(registry.builder(model)).parameters
    return {} if checkpoint.num_classes is None or not told else {"num_classes": checkpoint.num_classes}
