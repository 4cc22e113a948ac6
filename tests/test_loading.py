"""From a name to a model: published files by their names, foreign files by their paths, other heads, other starts."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import safetensors.torch
import torch

import zoo
from tests.goldens import load
from tests.hub.caffe2_file import caffe2_pickle
from tests.hub.conftest import hub, online  # noqa: F401 (fixtures)
from tests.hub_server import Plain, Repo
from zoo import registry
from zoo.hub.manifest import manifest
from zoo.loading import _spec

# Case, checkpoint, and the weight of atol: the published file's format is what the authors' server sends.
PUBLISHED = {
    "nonlocal_i3d_r50_nl5_32f_small": "nonlocal_i3d_r50.kinetics400_32x2",
    "nonlocal_i3d_r50_nl5_8x8_small": "nonlocal_i3d_r50_8x8.kinetics400_8x8",
    "nonlocal_i3d_r50_nl5_affine_128f_small": "nonlocal_i3d_r50_128x1.kinetics400_128x1",
    "nonlocal_c2d_r50_32f_small": "c2d_r50.kinetics400_32x2",
}
FILES = {
    "nonlocal_pyslowfast_i3d_nln_8x8": ("slowfast_nonlocal_i3d_r50_8x8", "model_state", "logits"),
    "nonlocal_mmaction_i3d_r50_nl_embedded_gaussian": ("mmaction_nonlocal_i3d_r50", "state_dict", "logits"),
}


def publish(server, checkpoint: str, case) -> None:
    """Put recipe weights on the server, as the authors published theirs."""
    url = manifest().get(checkpoint).source.url
    blobs = {name: value.numpy() for name, value in case.state().items()}
    server.plain["/" + url.split("/", 3)[3]] = Plain(caffe2_pickle(blobs))


@pytest.mark.slow
@pytest.mark.parametrize("case", PUBLISHED)
def test_a_published_name_gives_the_reference_outputs(case, online):  # noqa: F811
    golden = load(case)
    publish(online, PUBLISHED[case], golden)
    model = zoo.load(PUBLISHED[case])
    assert not model.training
    assert model.labels[:2] == ("abseiling", "air drumming")
    with torch.no_grad():
        golden.check("pred", model(golden.input("data")))
        golden.check("softmax", model.view_scores(golden.input("data")))


@pytest.mark.slow
@pytest.mark.parametrize("case", FILES)
def test_a_foreign_file_is_recognised_by_its_content(case, tmp_path):
    golden, (name, key, output) = load(case), FILES[case]
    torch.save({key: golden.state(), "epoch": 3}, tmp_path / "published")
    model = zoo.load(name, weights=tmp_path / "published")
    with torch.no_grad():
        golden.check(output, model(golden.input("data")).view_as(golden.outputs[output]))


def test_a_plain_name_is_its_default_checkpoint(online):  # noqa: F811
    publish(online, "c2d_r50.kinetics400_32x2", load("nonlocal_c2d_r50_32f_small"))
    model = zoo.load("c2d", num_classes=157)
    assert model.name == "c2d_r50"
    assert model.head.weight.shape == (157, 2048)
    assert model.labels is None  # the file's names are not the new head's
    original = load("nonlocal_c2d_r50_32f_small").state()["conv1_w"]
    assert torch.equal(model.trunk.stem.conv.weight, original)


@pytest.mark.slow
def test_long_clips_start_from_short_ones(online):  # noqa: F811
    """Norms folded, the classifier and the non-local blocks fresh, as the release trained its long-clip models."""
    publish(online, "nonlocal_i3d_r50.kinetics400_32x2", load("nonlocal_i3d_r50_nl5_32f_small"))
    short = zoo.load("nonlocal_i3d_r50")
    long = zoo.load("nonlocal_i3d_r50_128x1", weights="nonlocal_i3d.kinetics400_32x2", norm="affine", num_classes=7)
    clips = torch.randn(1, 3, 32, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(long.trunk.stem(clips), short.trunk.stem(clips), atol=1e-4, rtol=1e-3)


def test_without_a_network_it_says_what_it_tried_and_what_helps(tmp_path):
    with pytest.raises(zoo.FetchError) as caught:
        zoo.load("nonlocal_i3d")
    text = str(caught.value)
    assert manifest().default("nonlocal_i3d_r50").source.url in text
    assert str(tmp_path / "cache") in text
    assert "ZOO_MIRROR" in text
    assert "weights=PATH" in text


def test_weights_that_do_not_fit_are_refused_by_key(tmp_path):
    state = zoo.create("nonlocal_i3d_tiny").state_dict()
    state["trunk.res9.weight"] = state.pop("trunk.stem.conv.weight")
    state["trunk.stem.norm.weight"] = torch.ones(3)
    torch.save({"state_dict": state}, tmp_path / "w.pth")
    with pytest.raises(zoo.WeightsError) as caught:
        zoo.load("nonlocal_i3d_tiny", weights=tmp_path / "w.pth")
    text = str(caught.value)
    assert "missing: trunk.stem.conv.weight" in text
    assert "unexpected: trunk.res9.weight" in text
    assert "wrong shape: trunk.stem.norm.weight is [3]" in text


def test_weights_without_a_head_are_refused_by_key(tmp_path):
    state = {k: v for k, v in zoo.create("i3d_tiny").state_dict().items() if not k.startswith("head.")}
    torch.save({"state_dict": state}, tmp_path / "w.pth")
    with pytest.raises(zoo.WeightsError, match=r"missing: head\.weight"):
        zoo.load("i3d_tiny", weights=tmp_path / "w.pth")


def test_converted_weights_of_another_model_are_refused(tmp_path):
    """The 32 x 2 and 8 x 8 networks have the same keys and shapes: only the file itself can tell."""
    from zoo.loading import convert

    torch.save({"state_dict": zoo.create("i3d_tiny").state_dict()}, tmp_path / "w.pth")
    convert("i3d_tiny", tmp_path / "w.pth", tmp_path / "w.safetensors")
    assert zoo.load("i3d_tiny", weights=tmp_path / "w.safetensors").name == "i3d_tiny"
    with pytest.raises(zoo.WeightsError, match="weights of i3d_tiny, not of nonlocal_i3d_tiny"):
        zoo.load("nonlocal_i3d_tiny", weights=tmp_path / "w.safetensors")


@pytest.mark.slow
def test_imagenet_weights_come_through_the_hub_inflated(hub, tmp_path):  # noqa: F811
    """timm's own download, from a hub on the loopback: the client reads its address when it is imported."""
    import timm

    torch.manual_seed(0)
    backbone = timm.create_model("resnet50").state_dict()
    repo = Repo(commits=[("0" * 40, {"model.safetensors": safetensors.torch.save(backbone)})])
    hub.repos["timm/resnet50.tv_in1k"] = repo
    code = (
        "import torch, zoo\n"
        "for name in ('i3d_r50', 'i3d_r50_128x1'):\n"
        "    trunk = zoo.load(name, weights='imagenet').trunk\n"
        "    weight = trunk.stem.conv.weight\n"
        "    same = bool((weight[:, :, 0] == weight[:, :, 4]).all())\n"
        "    print(tuple(weight.shape), round(weight.sum().item(), 2), same)\n"
    )
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    environment["HF_HUB_DISABLE_XET"] = "1"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    total = round(backbone["conv1.weight"].sum().item(), 2)
    assert done.stdout.splitlines() == [f"(64, 3, 5, 7, 7) {total} True"] * 2, done.stderr


def test_imagenet_is_refused_where_there_is_no_counterpart():
    with pytest.raises(zoo.WeightsError, match="no counterpart"):
        zoo.load("i3d_tiny", weights="imagenet")
    with pytest.raises(zoo.FetchError, match=r"resnet50\.tv_in1k"):
        zoo.load("i3d_r50", weights="imagenet")


def test_bundled_weights_load_by_name_and_keep_their_proof():
    for checkpoint in manifest().bundled():
        model = zoo.load(checkpoint.name)
        assert model.checkpoint == checkpoint
        assert checkpoint.num_classes in (None, model.labels and len(model.labels))  # a decoder's labels are words
        assert zoo.verify(checkpoint.name).ok


def test_wrong_names_are_answered():
    with pytest.raises(zoo.UnknownNameError, match="nonlocal_i3d_r50"):
        zoo.load("nonlocal_i3d_r500")
    with pytest.raises(zoo.UnknownNameError, match="kinetics400_32x2"):
        zoo.load("nonlocal_i3d_r50.kinetics400_32x3")
    with pytest.raises(zoo.FetchError, match="nobody has published"):
        zoo.load("nonlocal_i3d_r101")
    with pytest.raises(zoo.FetchError, match="no such file"):
        zoo.load("i3d_r50", weights="nowhere.pkl")


def test_convert_writes_what_load_reads(tmp_path):
    from zoo.loading import convert

    golden = load("nonlocal_c2d_r50_32f_small")
    source, target = tmp_path / "in.pkl", tmp_path / "out.safetensors"
    source.write_bytes(caffe2_pickle({k: v.numpy() for k, v in golden.state().items()}))
    convert("c2d_r50", source, target)
    model = zoo.load("c2d_r50", weights=target)
    with torch.no_grad():
        golden.check("pred", model(golden.input("data")))


def test_every_checkpoint_is_of_a_registered_model():
    for checkpoint in manifest().values():
        assert registry.entry(checkpoint.model).name == checkpoint.model
        assert checkpoint.labels in (*zoo_labels(), None)


def zoo_labels() -> list[str]:
    from zoo.data.labels import label_lists

    return label_lists()


def saved(model, path, **changes):
    """As `zoo fit` saves it."""
    content = {"pytorch-lightning_version": "2.6", "state_dict": model.state_dict()}
    model.on_save_checkpoint(content)
    content["zoo"] |= changes
    torch.save(content, path)
    return path


def test_a_files_spec_holds_where_the_model_is_built_as_the_files(tmp_path):
    """What arguments ask for stays; what nobody asked for is as in training."""
    trained = zoo.create("charades_two_stream_rgb_tiny", num_classes=3, share=0.5)
    spec = trained.spec.replace(mean=(0.1, 0.2, 0.3), test_short_side=80).to_dict()
    path = saved(trained, tmp_path / "last.ckpt", spec=spec)
    for name, weights in (("charades_two_stream_rgb_tiny", path), (str(path), None)):
        same = zoo.load(name, weights, share=0.5)
        assert same.spec.to_dict() == spec
        other = zoo.load(name, weights, share=0.5, points=75)
        assert other.spec.moments.points == 75
        assert (other.spec.mean, other.spec.test_short_side) == ((0.1, 0.2, 0.3), 80)
    with torch.device("meta"):
        wide = zoo.create("i3d_r50_8x8", recipe="charades")
    about = {"arguments": {}, "spec": zoo.info("i3d_r50_8x8").spec.to_dict()}
    assert wide.spec.crop == 288
    assert _spec(wide, about["spec"], about["arguments"]) == wide.spec


class TestStreams:
    @pytest.fixture
    def files(self, tmp_path):
        """Weights of both streams, of three classes."""
        torch.manual_seed(0)
        made = {s: zoo.create(f"charades_two_stream_{s}_tiny", num_classes=3) for s in ("rgb", "flow")}
        for model in made.values():
            model.labels = ("a", "b", "c")
        return {stream: saved(model, tmp_path / f"{stream}.ckpt") for stream, model in made.items()}

    def test_each_has_weights_of_its_own(self, files):
        model = zoo.load("charades_two_stream_tiny", list(files.values()), points=5, fusion="product")
        assert not any(part.training for part in model.modules())
        assert (model.num_classes, model.labels, model.fusion) == (3, ("a", "b", "c"), "product")
        for stream, path in files.items():
            alone = zoo.load(str(path)).state_dict()
            assert all(torch.equal(alone[k], v) for k, v in model.streams[stream].state_dict().items())
        assert model.spec.moments.points == model.flow.spec.moments.points == 5
        assert not any(value.is_meta for value in (*model.parameters(), *model.buffers()))
        with pytest.raises(zoo.WeightsError, match="1 sets of weights were given, and charades_two_stream_tiny has 2"):
            zoo.load("charades_two_stream_tiny", [files["rgb"]])
        with pytest.raises(zoo.WeightsError, match="2 sets of weights were given, and i3d_tiny takes one"):
            zoo.load("i3d_tiny", list(files.values()))
        with pytest.raises(zoo.WeightsError, match=r"wrong shape: backbone\.features\.0\.weight is"):
            zoo.load("charades_two_stream_tiny", [files["flow"], files["rgb"]])
        with pytest.raises(zoo.WeightsError, match=r"of charades_two_stream_flow, and this stream of .*rgb\."):
            zoo.load("charades_two_stream", ["charades_two_stream_flow.charades"] * 2)

    def test_the_published_ones_are_looked_for_stream_by_stream(self):
        with pytest.raises(zoo.FetchError, match=r"nobody has published weights for 'charades_two_stream_rgb_tiny'"):
            zoo.load("charades_two_stream_tiny")
        with pytest.raises(zoo.FetchError, match=r"cannot fetch charades_two_stream_rgb\.charades:"):
            zoo.load("charades_two_stream")

    @pytest.mark.parametrize("order", [("rgb", "flow"), ("flow", "rgb")])
    @pytest.mark.parametrize("how", ["mean", "product"])
    def test_models_and_files_are_fused_in_any_order(self, files, order, how):
        a, b = (str(files[stream]) for stream in order)
        model = zoo.fuse(zoo.load(a), b, how)
        assert (model.rgb.name, model.flow.name) == ("charades_two_stream_rgb_tiny", "charades_two_stream_flow_tiny")
        assert (model.fusion, model.labels, model.training) == (how, ("a", "b", "c"), False)

    def test_what_does_not_go_together_is_named(self, files):
        rgb, flow = (zoo.load(str(path)) for path in files.values())
        with pytest.raises(zoo.ZooError, match="charades_two_stream_rgb_tiny looks at rgb, as the other does"):
            zoo.fuse(rgb, rgb)
        with pytest.raises(zoo.ZooError, match="i3d_tiny does not score moments of a video"):
            zoo.fuse(rgb, zoo.create("i3d_tiny"))
        with pytest.raises(zoo.ZooError, match="looks at both streams by itself"):
            zoo.fuse(zoo.fuse(rgb, flow), flow)
        with pytest.raises(zoo.ZooError, match=r"rgb_tiny has 3 and 25, .*flow_tiny 5 and 25"):
            zoo.fuse(rgb, zoo.create("charades_two_stream_flow_tiny", num_classes=5))
        flow.labels = ("a", "b", "d")
        with pytest.raises(zoo.ZooError, match="trained on other classes"):
            zoo.fuse(rgb, flow)
        with pytest.raises(zoo.ZooError, match="'mean' or 'product', got 'sum'"):
            zoo.fuse(rgb, zoo.load(str(files["flow"])), "sum")
