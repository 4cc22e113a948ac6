"""The two-stream baselines: published names, colours, probabilities of frames and videos, prediction on files."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import pytorch_lightning as pl
import timm
import torch
from PIL import Image

import zoo
from tests.data.render import render
from tests.hub.lua_file import linear, sequential, write_lua
from tests.hub.python2_file import write_python2
from zoo.data.flow_files import flow_paths
from zoo.hub.lua import Record
from zoo.hub.upstream import read_foreign
from zoo.loading import on_paper
from zoo.methods.charades_keys import one_linear, vgg_weights
from zoo.methods.charades_two_stream import RECIPES, TORCH_MEAN
from zoo.metrics.ranking import average_precision
from zoo.metrics.smoothing import localisation_points

CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
LAYERS = (*(f"features.{n}" for n in CONVOLUTIONS), "classifier.0", "classifier.3")


def small_weights(bias: bool = True) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Weights and biases of VGG-16's sixteen layers, of a few numbers each."""
    shapes = [*[(3, 2, 3, 3)] * 13, (4, 6), (4, 4), (5, 4)]
    draw = torch.Generator().manual_seed(0)
    return [(torch.randn(shape, generator=draw), torch.randn(shape[0], generator=draw)) for shape in shapes]


def as_ours(weights: list[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, torch.Tensor]:
    names = [*(f"backbone.{layer}" for layer in LAYERS), "head"]
    return {
        f"{name}.{kind}": value
        for name, pair in zip(names, weights, strict=True)
        for kind, value in zip(("weight", "bias"), pair, strict=True)
    }


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("flat", [False, True])
def test_a_torch_release_of_layers_from_caffe(tmp_path, flat):
    """loadcaffe's layers: convolutions, ReLUs and poolings numbered alike; their weights may lie flat."""
    weights, modules = small_weights(), []
    for number, (weight, bias) in enumerate(weights):
        convolution = number < 13
        kind = ("nn.SpatialConvolutionMM" if flat else "cudnn.SpatialConvolution") if convolution else "nn.Linear"
        modules.append(linear(weight.flatten(1) if flat and convolution else weight, bias, kind, name=f"layer{number}"))
        modules.append(Record("cudnn.ReLU", {"inplace": True, "output": torch.zeros(0)}))
    write_lua(tmp_path / "twostream_rgb.t7", sequential(*modules[:-1]))
    _, state = read_foreign(tmp_path / "twostream_rgb.t7")
    model = on_paper("charades_two_stream_rgb")
    assert same(model.upstream_keys(state), as_ours(weights))


@pytest.mark.parametrize("replaced", [False, True])
def test_the_ports_flow_network_has_numbers_for_names(tmp_path, replaced):
    """Converted from Lua, its fully connected layers lie one deeper; a replaced classifier does not."""
    weights = small_weights()
    names = [*map(str, CONVOLUTIONS), "32.1", "35.1", "38" if replaced else "38.1"]
    state = {
        f"{name}.{kind}": value
        for name, pair in zip(names, weights, strict=True)
        for kind, value in zip(("weight", "bias"), pair, strict=True)
    }
    write_python2(tmp_path / "twostream_flow.pth", state)
    _, state = read_foreign(tmp_path / "twostream_flow.pth")
    assert same(on_paper("charades_two_stream_flow").upstream_keys(state), as_ours(weights))


@pytest.mark.parametrize("prefixes", [("features.module.", ""), ("module.features.", "module."), ("features.", "")])
def test_the_ports_rgb_network_has_torchvisions_names(tmp_path, prefixes):
    weights = small_weights()
    names = [*(f"{prefixes[0]}{n}" for n in CONVOLUTIONS), *(f"{prefixes[1]}classifier.{n}" for n in (0, 3, 6))]
    state = {
        f"{name}.{kind}": value
        for name, pair in zip(names, weights, strict=True)
        for kind, value in zip(("weight", "bias"), pair, strict=True)
    }
    content = {"epoch": 7, "arch": "vgg16", "state_dict": state, "mAP": np.float64(0.186), "optimizer": {}}
    write_python2(tmp_path / "twostream_rgb.pth.tar", content)
    _, state = read_foreign(tmp_path / "twostream_rgb.pth.tar")
    assert same(on_paper("charades_two_stream_rgb").upstream_keys(state), as_ours(weights))


def test_what_is_on_top_of_a_lua_network_is_kept_with_its_own_names():
    shapes = [(2, 1, 3, 3)] * 13 + [(2, 2)] * 2
    state = {f"modules.{2 * n + 1}.weight": torch.ones(shape) for n, shape in enumerate(shapes)}
    state |= {f"modules.{2 * n + 1}.bias": torch.ones(2) for n in range(15)}
    top = {"modules.39.modules.1.weight": torch.zeros(3, 2), "dataopt.1": torch.tensor(114.0)}
    vgg, rest = vgg_weights({**state, **top})
    assert list(vgg) == [f"{layer}.{kind}" for layer in LAYERS for kind in ("weight", "bias")]
    assert same(rest, top)
    with pytest.raises(zoo.WeightsError, match=r"linear classifier.*modules\.39\.modules\.1\.weight"):
        one_linear(rest)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"modules.1.weight": torch.ones(1)}, "1 layers with weights, not 15"),
        ({f"modules.{n}.{k}": torch.ones(2, 2) for n in range(15) for k in ("weight", "bias")}, r"layer 0 is \[2, 2\]"),
        ({f"modules.{n}.weight": torch.ones(2, 9) for n in range(15)}, "layer 0 has no bias"),
        ({"0.weight": torch.ones(1), "3.weight": torch.ones(1)}, "no layer for 3.weight"),
        ({"conv1.weight": torch.ones(1)}, "30 of its 30 entries lack, such as classifier.0.bias"),
    ],
)
def test_other_weights_are_refused(state, message):
    with pytest.raises(zoo.WeightsError, match=message):
        on_paper("charades_two_stream_rgb").upstream_keys(state)


@pytest.mark.parametrize("name", ["charades_resnet152", "charades_inception_v3"])
def test_image_networks_have_torchvisions_names(name):
    """With DataParallel's prefix, without the counters that torch 0.4.0 did not have, Inception with its other head."""
    model = on_paper(name)
    own = model.state_dict()
    theirs = {
        "module." + (f"fc.{k[5:]}" if k.startswith("head.") else k.removeprefix("backbone.")): torch.zeros(v.shape)
        for k, v in own.items()
        if not k.endswith("num_batches_tracked")
    }
    assert {"module.fc.weight"} < set(theirs)
    assert ("module.conv1.weight" if "resnet" in name else "module.Mixed_7c.branch_pool.conv.weight") in theirs
    if "inception" in name:
        theirs["module.AuxLogits.fc.weight"] = torch.zeros(157, 768)
    found = model.upstream_keys(theirs)
    assert {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in own.items()}


def test_torchvisions_vgg_starts_a_network_by_way_of_timm():
    with torch.device("meta"):
        theirs = timm.create_model("vgg16").state_dict()
    model = on_paper("charades_two_stream_rgb")
    seen = {}
    model.backbone.load_state_dict = seen.update
    model.start_from_image(theirs)
    assert {k: v.shape for k, v in seen.items()} == {k: v.shape for k, v in model.backbone.state_dict().items()}


def test_colours_are_those_of_each_release():
    frames = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    torch_release = on_paper("charades_two_stream_rgb", release="torch")
    port = on_paper("charades_two_stream_rgb")
    for model, expected in (
        (torch_release, [1 - m for m in TORCH_MEAN]),
        (port, [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]),
    ):
        found = torch.nn.Module.to(zoo.create("charades_two_stream_rgb_tiny"), "cpu")
        found.spec = model.spec
        assert found.normalize(frames)[0, :, 0, 0].tolist() == pytest.approx(expected, rel=1e-5)
    assert TORCH_MEAN[0] * 255 == pytest.approx(103.939)  # taken from red, although it is blue's
    flow = zoo.create("charades_two_stream_flow_tiny")
    still = flow.normalize(torch.full((1, 20, 2, 2), 128, dtype=torch.uint8))
    assert still.abs().max() == 0
    assert flow.normalize(torch.full((1, 20, 2, 2), 255, dtype=torch.uint8)).unique().item() == pytest.approx(127 / 255)


def batch(model, lengths=(3, 2), classes: int = 4, seed: int = 0) -> dict:
    """A test batch of videos of so many frames."""
    draw = torch.Generator().manual_seed(seed)
    stream, videos = model.spec.moments.streams[0], len(lengths)
    return {
        stream: torch.randint(0, 256, (sum(lengths), *model.input_shape()), generator=draw, dtype=torch.uint8),
        f"{stream}_time": torch.arange(1, 1 + sum(lengths)),
        "lengths": torch.tensor(lengths),
        "index": 2 * seed + torch.arange(videos),
        "label": torch.randint(0, 2, (videos, classes), generator=draw, dtype=torch.uint8),
        "moment_label": torch.randint(0, 2, (videos, 25, classes), generator=draw, dtype=torch.uint8),
    }


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_a_videos_score_is_the_mean_or_the_maximum_of_its_frames(pool):
    model = zoo.create("charades_two_stream_rgb_tiny", num_classes=4, pool=pool).eval()
    shown = batch(model)
    with torch.no_grad():
        (first, moments), (second, _) = model.scores(shown)
        frames = model(model.inputs(shown)).softmax(-1)
    torch.testing.assert_close(moments, frames[:3])
    assert moments.sum(-1).tolist() == pytest.approx([1, 1, 1])
    pooled = (lambda x: x.mean(0)) if pool == "mean" else (lambda x: x.max(0).values)
    torch.testing.assert_close(first, pooled(frames[:3]))
    torch.testing.assert_close(second, pooled(frames[3:]))
    assert pool.removesuffix("imum") in model.protocol()["in_words"]


def test_a_test_scores_videos_and_their_moments_before_and_after_smoothing():
    model = zoo.create("charades_two_stream_rgb_tiny", num_classes=4, smooth=1).eval()
    batches = [batch(model, (5, 5), seed=seed) for seed in range(3)]
    trainer = quiet_trainer()
    (logged,) = trainer.test(model, torch.utils.data.DataLoader(batches, batch_size=None), verbose=False)
    with torch.no_grad():
        scored = [pair for shown in batches for pair in model.scores(shown)]
    labels = {name: torch.cat([shown[name] for shown in batches]) for name in ("label", "moment_label")}
    labelled = torch.where(labels["label"].bool().any(1)[:, None], torch.stack([s for s, _ in scored]), -torch.inf)
    expected = {"map": average_precision(labelled, labels["label"])}
    for name, half in (("point_map", 0), ("point_map_post", 1)):
        moments = torch.cat([localisation_points(m, 25, half) for _, m in scored])
        expected[name] = average_precision(moments, labels["moment_label"].flatten(0, 1))
    for name, precision in expected.items():
        assert logged[name] == pytest.approx(100 * float(precision.nanmean()), abs=1e-3), name
    assert logged["videos"] == 6
    assert logged["point_map"] != logged["point_map_post"]
    model = zoo.create("charades_two_stream_rgb_tiny", num_classes=4).eval()
    (logged,) = trainer.test(model, torch.utils.data.DataLoader(batches, batch_size=None), verbose=False)
    assert "point_map_post" not in logged


def test_a_batch_whose_videos_were_all_broken():
    model = zoo.create("charades_two_stream_rgb_tiny", num_classes=4).eval()
    nothing = {name: value[:0] for name, value in batch(model).items()}
    model._score(nothing, model.test_metrics)
    assert model.predict_step(nothing, 0) == []


def test_predictions_of_a_batch_are_at_25_moments():
    model = zoo.create("charades_two_stream_rgb_tiny", num_classes=4, points=75).eval()
    with torch.no_grad():
        (found,) = model.predict_step({**batch(model, (75,)), "index": torch.tensor([7])}, 0)
        ((scores, moments),) = model.scores(batch(model, (75,)))
    assert found["index"] == 7
    assert torch.equal(found["scores"], scores)
    assert torch.equal(found["moments"], moments[::3])


def quiet_trainer(**options) -> pl.Trainer:
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return pl.Trainer(accelerator="cpu", **quiet, **options)


def test_it_learns_by_the_recipe_of_its_release():
    """SGD as the release runs it, at the rate for this batch; frames of four colours are told apart."""
    draw, colours = torch.Generator().manual_seed(0), torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 0]])
    samples = []
    for label in range(4):
        for _ in range(8):
            noise = torch.randint(0, 60, (3, 32, 32), generator=draw)
            frame = (colours[label].view(3, 1, 1) * 3 // 4 + noise).clamp(max=255)
            samples.append({"rgb": frame.to(torch.uint8), "label": label})
    torch.manual_seed(0)
    model = zoo.create("charades_two_stream_rgb_tiny", num_classes=4, batch=16, iterations=30, channels=8, crop=32)
    loader = torch.utils.data.DataLoader(samples, batch_size=16, shuffle=True)
    trainer = quiet_trainer(max_steps=30, limit_val_batches=0)
    trainer.fit(model, loader)
    (group,) = trainer.optimizers[0].param_groups
    assert group["initial_lr"] == pytest.approx(model.recipe.rate)
    assert (group["nesterov"], group["momentum"]) == (False, 0.9)
    assert len(group["params"]) == len(list(model.parameters()))
    frames = torch.stack([sample["rgb"] for sample in samples])
    with torch.no_grad():
        found = model.eval()(model.normalize(frames)).argmax(-1)
    assert found.tolist() == [sample["label"] for sample in samples]


def test_recipes_are_those_of_the_experiments():
    """A Torch step adds up four means of 64 samples: four times the rate of their mean."""
    rgb = RECIPES["pytorch", "rgb"]
    epoch = rgb.iterations / 20
    assert epoch == pytest.approx(0.1 * 3_761_459 / 64, rel=1e-4)
    assert [rgb.rate * rgb.factor(n / 20) for n in (0, 5, 7, 13, 19)] == pytest.approx([1e-3, 1e-3, 1e-4, 1e-5, 1e-6])
    flow = RECIPES["pytorch", "flow"]
    assert [flow.rate * flow.factor(n / 40) for n in (0, 14, 16, 31)] == pytest.approx([5e-3, 5e-3, 5e-4, 5e-5])
    lua = RECIPES["torch", "rgb"]
    assert (lua.batch, lua.rate, lua.factor(1), lua.weight_decay) == (256, 4e-3, 1, 1.25e-4)
    model = on_paper("charades_two_stream_flow", release="torch")
    assert model.nesterov
    assert model.recipe is RECIPES["torch", "flow"]
    assert model.spec.moments.share == 0.2
    assert [m.p for m in model.backbone.modules() if isinstance(m, torch.nn.Dropout)] == [0.9, 0.8]


def test_prediction_on_a_file(tmp_path):
    video = render(tmp_path / "x.mp4", frames=72, fps=24)
    model = zoo.create("charades_two_stream_rgb_tiny", num_classes=5, points=4).eval()
    found = model.predict(video, top=2)
    assert [p.score for p in found] == sorted((p.score for p in found), reverse=True)
    assert len(found) == 2
    assert found[0].label == f"class {found[0].index}"
    frames = model.predict(video, top=5, per_frame=True)
    assert [f.second for f in frames] == pytest.approx([0, 23 / 24, 47 / 24, 71 / 24])
    scores = torch.zeros(4, 5)
    for t, frame in enumerate(frames):
        for p in frame.classes:
            scores[t, p.index] = p.score
    assert found[0].score == pytest.approx(float(scores.mean(0).max()), rel=1e-5)
    with pytest.raises(zoo.ZooError, match="a whole number from 1 on, not -1"):
        model.predict(tmp_path / "none.mp4", top=-1)  # before the video is looked at


def test_prediction_on_a_folder_of_flow(tmp_path, monkeypatch):
    folder = tmp_path / "AB12C"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for image in range(1, 31):
        for path in flow_paths(folder, image):
            Image.fromarray(draw.integers(0, 256, (48, 64), dtype=np.uint8)).save(path)
    model = zoo.create("charades_two_stream_flow_tiny", num_classes=5, points=3).eval()
    frames = model.predict(folder, per_frame=True)
    assert [f.second for f in frames] == pytest.approx([0, 9 / 24, 18 / 24])
    assert model.predict(tmp_path / "any name.mp4", flow=folder) == model.predict(folder)
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(zoo.DataError, match="optical flow"):
        model.predict(tmp_path / "any name.mp4")


def test_another_classifiers_network_under_a_fresh_head():
    first, second = (zoo.create("charades_two_stream_rgb_tiny", num_classes=n) for n in (3, 5))
    second.load_state_dict(second.adapt(first.state_dict()))
    assert torch.equal(second.backbone.features[0].weight, first.backbone.features[0].weight)
    assert second.head.weight.shape == (5, 128)


def test_senseless_options_are_refused():
    with pytest.raises(zoo.ZooError, match="pool must be"):
        zoo.create("charades_two_stream_rgb_tiny", pool="median")
    with pytest.raises(zoo.ZooError, match="num_classes must be at least 1"):
        zoo.create("charades_two_stream_rgb_tiny", num_classes=0)


@pytest.mark.parametrize("fusion", ["mean", "product"])
def test_two_streams_are_fused_class_by_class(fusion):
    """Each stream sees its own frames, and gets its weights from a model of its own."""
    torch.manual_seed(0)
    streams = {s: zoo.create(f"charades_two_stream_{s}_tiny", num_classes=4).eval() for s in ("rgb", "flow")}
    model = zoo.create("charades_two_stream_tiny", num_classes=4, fusion=fusion).eval()
    for stream in streams.values():
        model.load_state_dict(model.adapt(stream.state_dict()))
    assert model.adapt(model.state_dict()).keys() == model.state_dict().keys()
    shown = {**batch(streams["rgb"]), **batch(streams["flow"])}
    (rgb, flow), fuse = (streams[s].scores(shown) for s in streams), {"mean": lambda a, b: (a + b) / 2}
    fuse = fuse.get(fusion, torch.mul)
    for found, a, b in zip(model.scores(shown), rgb, flow, strict=True):
        torch.testing.assert_close(found, (fuse(a[0], b[0]), fuse(a[1], b[1])))
    frames = torch.cat([shown["rgb"], shown["flow"]], 1)
    with torch.no_grad():
        moments = torch.cat([of_frames for _, of_frames in model.scores(shown)])
        torch.testing.assert_close(model(model.normalize(frames)).exp(), moments)
    assert fusion in model.protocol()["in_words"]
    assert model.input_shape() == (23, 64, 64)
    with pytest.raises(zoo.WeightsError, match="fit neither stream"):
        model.adapt(zoo.create("charades_two_stream_rgb_tiny", num_classes=5).state_dict())
    with pytest.raises(zoo.ZooError, match="fusion must be"):
        zoo.create("charades_two_stream_tiny", fusion="sum")
