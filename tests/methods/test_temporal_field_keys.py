"""Files as the Torch release wrote them: every layer in its place, whatever order or mapping the file brings."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch

import zoo
from tests.goldens import recipe
from tests.hub.conftest import hub, online  # noqa: F401 (fixtures)
from tests.hub.lua_file import linear, lua_bytes, sequential
from tests.hub_server import Plain
from zoo.data.activities import packaged_vocabulary
from zoo.hub.lua import Record
from zoo.hub.manifest import manifest
from zoo.hub.upstream import read_foreign
from zoo.methods import temporal_fields
from zoo.methods.charades_keys import CONVOLUTIONS
from zoo.methods.temporal_field_keys import arguments_of_release, from_release
from zoo.networks.vgg import Vgg16

OWN = packaged_vocabulary()
#: As the official files may have it: the package's guess under other numbers.
OFFICIAL = [[37 - thing, (verb + 5) % 33] for thing, verb in OWN.mapping]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """VGG-16 with all its layers, of a few numbers each."""
    network = functools.partial(Vgg16, widths=(2, 3, 3, 4, 4), hidden=8, side=1)
    monkeypatch.setattr(temporal_fields, "Vgg16", network)


def made(name: str = "temporal_fields", **arguments):
    """A model with weights of the recipe, in eval mode."""
    model = zoo.create(name, **arguments).eval()
    shapes = {key: value.shape for key, value in model.state_dict().items()}
    model.load_state_dict({key: torch.from_numpy(value) for key, value in recipe.state_dict(shapes).items()})
    return model


def frames(model) -> dict[str, torch.Tensor]:
    """A test batch of one video."""
    stream = model.spec.moments.streams[0]
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (6, *model.input_shape(32)), generator=draw, dtype=torch.uint8)
    return {stream: pixels, f"{stream}_time": torch.arange(1, 600, 100), "lengths": torch.tensor([6])}


def told(model) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.inference_mode():
        return model.scores(frames(model))[0]


def released(model, mapping=None, *, order=None, flat=False, dataopt=True) -> bytes:
    """The file of a model as the release's code lays it out, after loadcaffe's layers: a cudnn network on a GPU.

    Args:
        model: whose weights it holds.
        mapping: its table a2ov; by default none.
        order: of the rows of OV.
        flat: convolutions lie flat.
        dataopt: whether the table is there at all.
    """
    state, modules = model.state_dict(), []
    kind = "nn.SpatialConvolutionMM" if flat else "cudnn.SpatialConvolution"
    relu = Record("cudnn.ReLU", {"inplace": True, "output": torch.zeros(0)})
    for number in range(31):
        if number in CONVOLUTIONS:
            weight, bias = (state[f"backbone.features.{number}.{part}"] for part in ("weight", "bias"))
            modules.append(linear(weight.flatten(1) if flat else weight, bias, kind))
        else:
            modules.append(relu)  # or a pooling: they hold no weights
    modules.append(Record("nn.View", {"numElements": 25088.0}))
    for number in (0, 3):
        weight, bias = (state[f"backbone.classifier.{number}.{part}"] for part in ("weight", "bias"))
        modules += [linear(weight, bias), relu, Record("nn.Dropout", {"p": 0.5, "noise": torch.ones(4)})]
    rows = torch.arange(len(model.states)) if order is None else order
    pairs = torch.stack([model.states.op, model.states.ap], 1)[rows] + 1
    constant = Record("nn.Constant", {"value": 1.0})
    heads = [
        linear(state["head.op.weight"]),
        linear(state["head.ap.weight"]),
        linear(state["head.coap.weight"][rows]),
        sequential(
            Record("nn.BlockGradient", {}),
            linear(state["head.xi.0.weight"], state["head.xi.0.bias"]),
            relu,
            Record("nn.Dropout", {"p": 0.5}),
            linear(state["head.xi.3.weight"]),
        ),
        sequential(constant, linear(state["head.mu"].reshape(-1, 1))),
    ]
    crf = {"inputSize": 4096.0, "nOV": float(len(rows)), "model": sequential(*heads, kind="nn.ConcatTable")}
    modules.append(Record("nn.CRF_ATF", crf))
    table = {1: 114, 2: 99, 3: 16, 4: pairs, 5: pairs[:1], 6: pairs[:1]}
    if mapping is not None:
        table["a2ov"] = {n: {1: thing, 2: verb} for n, (thing, verb) in enumerate(mapping)}
    return lua_bytes(sequential(*modules, **({"dataopt": table} if dataopt else {})), cuda=True)


def publish(server, checkpoint: str, content: bytes) -> None:
    """Put a file where its authors have theirs."""
    path = manifest().get(checkpoint).source.url.split("/", 3)[3].partition("?")[0]
    server.plain[f"/{path}"] = Plain(content)


@pytest.mark.parametrize(("name", "flat"), [("temporal_fields", False), ("temporal_fields_flow", True)])
def test_a_published_name_gives_what_the_file_was_made_from(name, flat, online):  # noqa: F811
    model = made(name)
    publish(online, f"{name}.charades", released(model, OWN.mapping, flat=flat))
    found = zoo.load(name)
    assert found.checkpoint == manifest().get(f"{name}.charades")
    assert found.labels == OWN.classes
    assert found.arguments.get("mapping") is None
    assert found.vocabulary.objects == OWN.objects
    assert found.learnt
    assert found.head.intents == {"temporal_fields": 60, "temporal_fields_flow": 30}[name]
    for a, b in zip(told(found), told(model), strict=True):
        assert torch.equal(a, b)
    assert zoo.verify(f"{name}.charades").ok


def test_both_streams_by_their_own_names(online):  # noqa: F811
    """Each with the mapping of its own file: their scores are of classes."""
    models = made("temporal_fields"), made("temporal_fields_flow", mapping=OFFICIAL)
    for model in models:
        publish(online, f"{model.name}.charades", released(model, model.vocabulary.mapping))
    both = zoo.load("temporal_fields_two_stream", fusion="product")
    fused = zoo.fuse("temporal_fields_flow", "temporal_fields", "product")
    (rgb, _), (flow, _) = map(told, models)
    for found in (both, fused):
        assert found.labels == OWN.classes
        with torch.inference_mode():
            ((scores, _),) = found.scores(frames(models[0]) | frames(models[1]))
        torch.testing.assert_close(scores, rgb * flow)


@pytest.mark.parametrize("mapping", [None, OWN.mapping])
def test_rows_in_another_order_are_put_in_ours(mapping, tmp_path):
    model = made()
    order = torch.randperm(len(model.states), generator=torch.Generator().manual_seed(1))
    (tmp_path / "early.t7").write_bytes(released(model, mapping, order=order))
    found = zoo.load("temporal_fields", weights=tmp_path / "early.t7")
    assert torch.equal(found.head.coap.weight, model.head.coap.weight)
    for a, b in zip(told(found), told(model), strict=True):
        assert torch.equal(a, b)


def test_without_the_table_rows_are_taken_as_they_come(tmp_path):
    model = made()
    (tmp_path / "bare.t7").write_bytes(released(model, dataopt=False))
    found = zoo.load("temporal_fields", weights=tmp_path / "bare.t7")
    assert torch.equal(found.head.coap.weight, model.head.coap.weight)


def test_a_files_own_mapping_goes_before_the_packages(online, tmp_path):  # noqa: F811
    """By name, from the cache, from a converted file and from a checkpoint of ours: the field stays the file's."""
    from zoo.loading import convert

    model = made(mapping=OFFICIAL)
    content = released(model, OFFICIAL)
    publish(online, "temporal_fields.charades", content)
    (tmp_path / "w.t7").write_bytes(content)
    convert("temporal_fields", tmp_path / "w.t7", tmp_path / "w.safetensors")
    first = zoo.load("temporal_fields")
    saved = {"pytorch-lightning_version": "2.6", "state_dict": first.state_dict()}
    first.on_save_checkpoint(saved)
    torch.save(saved, tmp_path / "w.ckpt")
    files = [Path("temporal_fields"), *(tmp_path / f"w.{kind}" for kind in ("t7", "safetensors", "ckpt"))]
    for found in [first, *(zoo.load("temporal_fields", None if f == files[0] else f) for f in files)]:
        assert [list(pair) for pair in found.vocabulary.mapping] == OFFICIAL
        assert found.vocabulary.classes == OWN.classes
        assert (found.vocabulary.objects[12], found.vocabulary.verbs[3]) == ("object 12", "verb 3")
        for a, b in zip(told(found), told(model), strict=True):
            assert torch.equal(a, b)
    names = [f"thing {n}" for n in range(38)], [f"deed {n}" for n in range(33)]
    named = zoo.load("temporal_fields", objects=names[0], verbs=names[1])
    assert (named.vocabulary.objects[12], named.vocabulary.verbs[3]) == ("thing 12", "deed 3")
    assert zoo.verify("temporal_fields.charades").ok
    assert not torch.equal(told(made())[0], told(model)[0])


class TestRefusals:
    @pytest.fixture
    def state(self, tmp_path):
        path = tmp_path / "w.t7"
        path.write_bytes(released(made(), OWN.mapping))
        return read_foreign(path)[1]

    def test_pairs_that_no_class_has(self, state):
        assert set(from_release(state)) == set(zoo.create("temporal_fields").state_dict())
        thing, verb = OWN.mapping[100]
        others = {f"dataopt.a2ov.{n}" for n, pair in enumerate(OWN.mapping) if pair == (thing, verb)}
        state |= {key: torch.tensor([0.0, 32.0]) for key in others}
        words = r"(has|lacks) a row of OV for object .* of an activity.*\(6 such pairs\).*contradict"
        with pytest.raises(zoo.WeightsError, match=words):
            from_release(state)
        state = {key: value for key, value in state.items() if "a2ov" not in key}
        state["dataopt.4"][7, 0] += 1
        with pytest.raises(zoo.WeightsError, match=r"of an activity.*no table a2ov"):
            from_release(state)

    def test_rows_and_pairs_of_different_number(self, state):
        state["dataopt.4"] = state["dataopt.4"][1:]
        with pytest.raises(zoo.WeightsError, match=r"dataopt\.4 is \[461, 2\] with 461 pairs.*OV has 462 rows"):
            from_release(state)

    @pytest.mark.parametrize("value", [torch.tensor([1.0]), torch.tensor([38.0, 0.0]), torch.tensor([-1.0, 0.0])])
    def test_a_class_without_object_and_verb(self, state, value):
        with pytest.raises(zoo.WeightsError, match="gives class 7 no object and verb of 38 and 33"):
            arguments_of_release(state | {"dataopt.a2ov.7": value})

    def test_a_class_that_lacks(self, state):
        state.pop("dataopt.a2ov.9")
        with pytest.raises(zoo.WeightsError, match="of 156 classes gives class 9 no object"):
            arguments_of_release(state)

    def test_other_layers(self, state):
        lacking = {key: value for key, value in state.items() if ".modules.4.modules.2." not in key}
        with pytest.raises(zoo.WeightsError, match=r"5 layers with weights on top of VGG-16.*constant"):
            from_release(lacking)
        with pytest.raises(zoo.WeightsError, match="no weights of VGG-16"):
            from_release({"modules.1.weight": torch.zeros(1, 1)})


class TestStarts:
    def test_from_a_classifier_of_frames(self, monkeypatch, tmp_path):
        """Its network under a fresh field, which the data may still give other words to."""
        from zoo.methods import charades_two_stream

        monkeypatch.setattr(charades_two_stream, "Vgg16", temporal_fields.Vgg16)
        classifier = made("charades_two_stream_rgb", num_classes=5)
        saved = {"pytorch-lightning_version": "2.6", "state_dict": classifier.state_dict()}
        classifier.on_save_checkpoint(saved)
        torch.save(saved, tmp_path / "w.ckpt")
        model = zoo.load("temporal_fields", weights=tmp_path / "w.ckpt", intents=3)
        assert torch.equal(model.backbone.features[28].weight, classifier.backbone.features[28].weight)
        assert model.head.intents == 3
        assert not model.learnt
        model.load_state_dict(made(intents=3).state_dict())
        assert model.learnt
        with pytest.raises(zoo.WeightsError, match="no network for frames"):
            model.adapt({"trunk.weight": torch.zeros(1)})

    def test_from_images_by_way_of_timm(self):
        model = zoo.create("temporal_fields")
        assert model.image_backbone == "vgg16.tv_in1k"
        assert zoo.create("temporal_fields_flow").image_backbone is None
        theirs = {
            f"pre_logits.fc{n}.{part}": model.backbone.state_dict()[f"classifier.{3 * (n - 1)}.{part}"] + 1
            for n in (1, 2)
            for part in ("weight", "bias")
        }
        theirs = {key: value[..., None, None] if "weight" in key else value for key, value in theirs.items()}
        theirs |= {key: value + 1 for key, value in model.backbone.state_dict().items() if key.startswith("features")}
        model.start_from_image({**theirs, "head.fc.weight": torch.zeros(1, 8)})
        assert not model.learnt
        assert torch.equal(model.backbone.classifier[3].bias, torch.ones(8))
