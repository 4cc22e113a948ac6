"""The shipped list of weights, entry by entry, and a schema that names what is wrong in one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from zoo import registry
from zoo.data.labels import class_names
from zoo.errors import FetchError, UnknownNameError, WeightsError
from zoo.files import sha256_of
from zoo.hub.manifest import Bundled, Checkpoint, Hub, Upstream, manifest, read_manifest
from zoo.resources import resource
from zoo.spec import VideoSpec

ALL = [pytest.param(checkpoint, id=checkpoint.name) for checkpoint in manifest().values()]


@pytest.mark.parametrize("checkpoint", ALL)
def test_every_entry_is_of_a_registered_model_whose_spec_it_fits(checkpoint: Checkpoint):
    assert checkpoint.model in registry.list_models()
    with torch.device("meta"):
        spec = registry.create(checkpoint.model).spec
    VideoSpec.from_dict({**spec.to_dict(), **checkpoint.spec})
    if checkpoint.labels:
        assert checkpoint.num_classes in (None, len(class_names(checkpoint.labels)))  # a decoder's are its words


@pytest.mark.parametrize("checkpoint", ALL)
def test_every_entry_says_where_it_is_from_and_what_may_be_done_with_it(checkpoint: Checkpoint):
    assert checkpoint.license
    assert checkpoint.code_license
    assert checkpoint.trained_on
    source = checkpoint.source
    if isinstance(source, Upstream):
        assert source.url.startswith("https://")
        assert checkpoint.sha256_prefix is None or checkpoint.sha256_prefix in source.file
    if isinstance(source, Bundled):
        path = resource(source.path)
        assert sha256_of(path) == checkpoint.sha256
        assert path.stat().st_size <= 8 << 20
        assert checkpoint.proof, "bundled weights bring their proof"
        assert resource(checkpoint.proof).exists()


CORRESPONDENCE = ("time_cycle_r50", "contrastive_random_walk_r18")
TORCHVISION = ("r3d18", "r2plus1d18")
TEMPORAL_FIELDS = ("temporal_fields", "temporal_fields_flow", "async_tf")
CHARADES = ("charades_two_stream_rgb", "charades_two_stream_flow", "charades_resnet152", "charades_inception_v3")

HOWTO100M = ("s3d_milnce", "howto100m_embedding")
PHYSICS = ("intuitive_physics",)


def test_what_was_published_of_correspondence_is_listed():
    time_cycle, walk = (manifest().default(model) for model in CORRESPONDENCE)
    assert time_cycle.source.file == "checkpoint_14.pth.tar"  # the address itself ends with no file's name
    assert time_cycle.license == "NOASSERTION"
    assert walk.source.file == "pretrained.pth"
    assert walk.license == "MIT"
    assert time_cycle.num_classes is walk.num_classes is None


def test_what_was_published_for_howto100m_is_listed():
    s3d, embedding = (manifest().default(model) for model in HOWTO100M)
    assert s3d.source.companions["dictionary"].endswith("/s3d_dict.npy")
    assert s3d.license == embedding.license == "NOASSERTION"


def test_everything_that_was_published_for_non_local_networks_is_listed():
    by, others = {}, {*CORRESPONDENCE, *TORCHVISION, *CHARADES, *TEMPORAL_FIELDS, *HOWTO100M, *PHYSICS}
    for checkpoint in manifest().values():
        if isinstance(checkpoint.source, Upstream) and checkpoint.model not in others:
            by.setdefault(checkpoint.source.url.split("/")[3], []).append(checkpoint)
    assert {publisher: len(entries) for publisher, entries in by.items()} == {
        "video-nonlocal": 15,
        "pyslowfast": 3,
        "mmaction": 5,
    }
    assert {c.license for c in by["video-nonlocal"]} == {"CC-BY-NC-4.0"}
    assert {c.license for c in by["pyslowfast"] + by["mmaction"]} == {"Apache-2.0"}
    assert all(len(c.sha256_prefix) == 8 for c in by["mmaction"])
    assert len({c.source.url for entries in by.values() for c in entries}) == 23


def test_what_was_published_of_two_streams_on_charades_is_listed():
    found = [checkpoint for model in CHARADES for checkpoint in manifest().for_model(model)]
    assert [c.source.file for c in found] == [
        "twostream_rgb.pth.tar",
        "twostream_rgb.t7",
        "twostream_flow.pth",
        "twostream_flow.t7",
        "vgg16flow_ucf101.pth",
        "resnet_rgb.pth.tar",
        "inception_rgb.pth.tar",
    ]
    assert {c.source.format for c in found if c.source.file.endswith(".t7")} == {"lua"}
    assert all(c.source.url.endswith("?dl=1") for c in found)  # without it the address is a page
    assert {c.license for c in found} == {"NOASSERTION"}
    start = manifest().get("charades_two_stream_flow.ucf101")
    assert (start.num_classes, start.labels, start.reported) == (101, None, None)
    assert {(c.num_classes, c.labels) for c in found if c != start} == {(157, "charades")}


def test_what_was_published_of_temporal_fields_is_listed():
    found = [manifest().default(model) for model in TEMPORAL_FIELDS]
    assert [(c.source.file, c.source.format) for c in found] == [
        ("tfields_rgb.t7", "lua"),
        ("tfields_flow.t7", "lua"),
        ("asynctf_rgb.pth.tar", "torch"),
    ]
    assert all(c.source.url.endswith("?dl=1") for c in found)
    assert {(c.num_classes, c.labels, c.license, c.reported.videos) for c in found} == {
        (157, "charades", "NOASSERTION", 1863)
    }
    assert "ten message passes" in found[0].reported.protocol.in_words


@pytest.mark.parametrize("model", TORCHVISION)
def test_torchvisions_files_carry_their_hash_in_their_names(model):
    (found,) = manifest().for_model(model)
    assert f"-{found.sha256_prefix}.pth" in found.source.url
    assert (found.labels, found.num_classes) == ("kinetics400", 400)


def test_default_of_the_canonical_model():
    found = manifest().default("nonlocal_i3d_r50")
    assert found.name == "nonlocal_i3d_r50.kinetics400_32x2"
    assert found.source.url.endswith("/video-nonlocal/i3d_nonlocal_32x2_IN_pretrain_400k.pkl")
    assert found.reported.scores == {"top1": 74.9, "top5": 91.6}
    assert found.reported.protocol.clips * found.reported.protocol.crops == 30
    several = manifest().for_model("i3d_r50_8x8")
    assert several[0].tag == "kinetics400_8x8"
    assert len(several) == 4


def test_reported_scores_are_those_of_the_table():
    tables = yaml.safe_load(resource("benchmarks/tables/nonlocal.yaml").read_text())
    rows = {}
    for table in [*tables["tables"], *tables.get("release_tables", [])]:
        rows |= {(f"nonlocal/{table['id']}", row["name"]): row["values"] for row in table["rows"]}
    checked = 0
    for checkpoint in manifest().values():
        if checkpoint.reported and (checkpoint.reported.table or "").startswith("nonlocal/"):
            values = rows[checkpoint.reported.table, checkpoint.reported.row]
            assert checkpoint.reported.scores.items() <= values.items(), checkpoint.name
            checked += 1
    assert checked >= 15


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match=r"Did you mean nonlocal_i3d_r50\.kinetics400_32x2"):
        manifest().get("nonlocal_i3d_r50.kinetics_32x2")
    with pytest.raises(FetchError, match=r"nobody has published weights for 'c2d_r101'.*zoo fit"):
        manifest().default("c2d_r101")


def test_reading_it_needs_no_torch():
    code = "import sys; from zoo.hub.manifest import manifest; manifest(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


ENTRY = """
protocols:
  one_view: {dataset: toys, split: val, clips: 1, crops: 1, short_side: 8, crop: 8, score: softmax}
checkpoints:
  tiny.toys:
    default: true
    source: {upstream: {url: https://weights.example.org/tiny.pkl, format: caffe2}}
    sha256: null
    license: MIT
    code_license: MIT
    trained_on: [toys]
    num_classes: 2
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "checkpoints.yaml"
    path.write_text(text)
    return path


def test_a_hub_source_and_a_measured_score(tmp_path):
    sha256 = "ab" * 32
    text = ENTRY.replace("{upstream: {url: https://weights.example.org/tiny.pkl, format: caffe2}}", "SOURCE")
    text = text.replace("SOURCE", "{hub: {repo: org/tiny, file: model.safetensors, revision: main}}")
    text = text.replace("sha256: null", f"sha256: {sha256}\n    measured: {{top1: 50}}\n    spec: {{frames: 8}}")
    found = read_manifest(written(tmp_path, text)).get("tiny.toys")
    assert found.source == Hub("org/tiny", "model.safetensors", "main")
    assert (found.sha256, found.measured, found.spec) == (sha256, {"top1": 50.0}, {"frames": 8})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("license: MIT\n    code", "code", "field 'license': is missing"),
        ("num_classes: 2", "num_classes: two", "field 'num_classes': must be a positive integer; got 'two'"),
        ("num_classes: 2", "num_classes: true", "positive integer"),
        ("sha256: null", "sha256: abc", "field 'sha256': must be 64 lower-case hex digits"),
        ("sha256: null", "sha256_prefix: 12345678", "must be 8 lower-case hex digits, in quotes"),
        ("sha256: null", "sh256: null", "field 'sh256': is no field of the schema"),
        ("{upstream: {url: https:", "{bundled: x, upstream: {url: https:", "exactly one of `bundled: path`"),
        ("{upstream: {url: https:", "{torrent: {url: https:", "exactly one of `bundled: path`"),
        ("https://weights.example.org/tiny.pkl", "ftp://weights.example.org/tiny.pkl", "must be an http(s) URL"),
        ("https://weights.example.org/tiny.pkl", "https://weights.example.org/", "must be an http(s) URL"),
        ("format: caffe2", "format: keras", "must be one of caffe2, torch, lightning, safetensors, lua; got 'keras'"),
        (
            "{upstream: {url: https://weights.example.org/tiny.pkl, format: caffe2}}",
            "{bundled: ../x}",
            "a relative path without `..`",
        ),
        (
            "{upstream: {url: https://weights.example.org/tiny.pkl, format: caffe2}}",
            "{bundled: x}",
            "field 'sha256': is null for a bundled file",
        ),
        ("num_classes: 2", "num_classes: 2\n    spec: {frames: 0}", "field 'spec': spec: frames must be a positive"),
        ("num_classes: 2", "num_classes: 2\n    spec: {frame: 8}", "unknown field frame"),
        (
            "num_classes: 2",
            "num_classes: 2\n    reported: {by: me, protocol: ten_views, scores: {top1: 1}}",
            "must be one of one_view",
        ),
        (
            "num_classes: 2",
            "num_classes: 2\n    reported: {by: me, protocol: one_view, scores: {top1: good}}",
            "metric names with numbers",
        ),
        ("trained_on: [toys]", "trained_on: toys", "a non-empty list of texts"),
        ("default: true", "default: maybe", "true or false"),
        ("default: true\n    ", "", "model 'tiny': exactly one checkpoint must say `default: true`; none does"),
        ("tiny.toys:", "tiny:", "is not `model.tag`"),
        ("license: MIT\n    code", "license: MIT\n    license: BSD\n    code", "'license' stands twice"),
        ("checkpoints:", "checkpoints: [", "cannot be read as YAML"),
        ("checkpoints:", "weights:", "field 'checkpoints': is missing"),
    ],
)
def test_a_wrong_entry_is_named_with_field_and_remedy(tmp_path, old, new, message):
    assert old in ENTRY
    read_manifest(written(tmp_path, ENTRY))
    with pytest.raises(WeightsError) as error:
        read_manifest(written(tmp_path, ENTRY.replace(old, new)))
    assert message in str(error.value)
    assert "checkpoints.yaml" in str(error.value)
