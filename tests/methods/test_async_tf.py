from __future__ import annotations

import functools
from collections import OrderedDict

import numpy as np
import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

import zoo
from tests import goldens
from tests.goldens import recipe
from tests.hub.conftest import hub, online  # noqa: F401 (fixtures)
from tests.hub.python2_file import write_python2
from tests.hub_server import Plain
from zoo import registry
from zoo.data.activities import packaged_vocabulary
from zoo.hub.manifest import manifest
from zoo.methods import async_tf
from zoo.methods.async_tf import AsyncTF, adjustment, balanced, refined
from zoo.methods.base import Recipe
from zoo.metrics.smoothing import moving_average
from zoo.networks.message_server import MessageServer
from zoo.spec import MomentSpec, VideoSpec

SPEC = VideoSpec(
    frames=1, fps=24, crop=8, short_side=(8, 8), test_crop=8, test_short_side=8, moments=MomentSpec(labels="all")
)


def model_of(case: goldens.Case) -> AsyncTF:
    """The port's layer and criterion on features as they are."""
    about = case.manifest["config"]
    model = AsyncTF(
        nn.Identity(),
        about["dim"],
        spec=SPEC,
        recipe=Recipe(),
        num_classes=about["nclass"],
        rank=about["nhidden"],
        memory=about["memory_size"],
        decay=about["memory_decay"],
        sigma=about["sigma"],
        temporal_weight=about["temporal_weight"],
        adjustment_weight=about["temporalloss_weight"] if about["adjustment"] else 0,
        unary_weight=about["originalloss_weight"],
        balance=about["balanceloss"],
    )
    model.load_state_dict(AsyncTF.upstream_keys({f"fc.{key}": value for key, value in case.state().items()}))
    return model


def batch_of(case: goldens.Case, number: int) -> dict[str, torch.Tensor]:
    about = case.manifest["id_time"][number]
    return {
        "video": torch.tensor([int(name[1:]) for name in about["id"]]),
        "rgb_time": torch.tensor(about["time"]),
        "label": case.stored[f"target{number}"],
    }


@pytest.mark.parametrize("name", ["temporal_fields_asynctf_train", "temporal_fields_asynctf_released"])
def test_training_equals_the_port(name):
    """Every SGD step with its messages, losses and gradients, and the weights in the end."""
    case = goldens.load(name)
    about, model = case.manifest["config"], model_of(case)
    options = about["optimizer"]
    optimizer = torch.optim.SGD(
        model.parameters(), options["lr"], momentum=options["momentum"], weight_decay=options["weight_decay"]
    )

    def check(key: str, value: torch.Tensor) -> None:
        value = value.detach()
        if key in case.outputs:
            case.check(key, value)
        if f"{key}#every97" in case.outputs:
            case.check(f"{key}#every97", value.flatten()[::97])
            flat = value.double().flatten()
            case.check(f"{key}#mean_std_norm", torch.stack([flat.mean(), flat.std(correction=0), flat.norm()]))

    names = {"mA.weight": "unary.weight", "mA.bias": "unary.bias", "mAAa.weight": "left", "mAAb.weight": "right"}
    for number in range(len(case.manifest["inputs"])):
        batch = batch_of(case, number)
        a = model.head(case.input(f"x{number}"))
        heard = model.server.receive(batch["video"], batch["rgb_time"])
        past, future = (model.temporal_weight * heard.gather("said", side) for side in ("past", "future"))
        if number == 0:
            check("affinity", model.head.affinity)
        check(f"{number}.logits", a)
        check(f"{number}.past", past)
        check(f"{number}.future", future)
        check(f"{number}.q", refined(a, past, future, model.head.affinity))
        loss, parts = model.loss(a, batch)
        told = model.server.receive(batch["video"], batch["rgb_time"])
        for side in ("past", "future"):
            check(f"{number}.gt_{side}", model.temporal_weight * told.gather("label", side))
        check(f"{number}.loss", loss[None])
        check(f"{number}.loss_parts", torch.stack(list(parts.values())).double())
        optimizer.zero_grad()
        loss.backward()
        for theirs, ours in names.items():
            grad = model.head.get_parameter(ours).grad
            check(f"{number}.grad.{theirs}", grad.reshape(-1, 1) if theirs.startswith("mAA") else grad)
        optimizer.step()
    for theirs, ours in names.items():
        value = model.head.get_parameter(ours)
        check(f"final.{theirs}", value.reshape(-1, 1) if theirs.startswith("mAA") else value)
    check("final.affinity", model.head.affinity)
    for video, times in case.manifest["memory_times_at_end"].items():
        assert model.server.times(int(video[1:])).tolist() == times
    case.assert_complete()


def test_a_video_at_once_equals_the_ports_passes():
    """With room for all frames one pass is the port's six; with less, its server is ours."""
    case = goldens.load("temporal_fields_asynctf_sync")
    model = model_of(case)
    for name, times in case.manifest["times"].items():
        a, time = model.head(case.input(f"x_{name}")), torch.tensor(times)
        case.check(f"logits_{name}", a)
        for window in (0, 1):
            q = moving_average(model.message_passing(a, time), window)
            for call in {"v0": (0, 2), "v1": (1,)}[name]:
                case.check(f"m25.ws{window}.call{call}.q", q)
                case.check(f"m25.ws{window}.call{call}.video", q.amax(0))
    for size in (25, 10):
        for window in (0, 1):
            server = MessageServer({"said": 11}, size, 1.0, "recent", model.sigma, strict=True, overwrite=False)
            for call, name in enumerate(("v0", "v1", "v0")):
                a, time = model.head(case.input(f"x_{name}")), torch.tensor(case.manifest["times"][name])
                video, label = torch.full_like(time, int(name[1:])), case.stored[f"target_{name}"].float().expand_as(a)
                for _ in range(6):
                    heard = server.receive(video, time)
                    past, future = (model.temporal_weight * heard.gather("said", side) for side in ("past", "future"))
                    q = refined(a, past, future, model.head.affinity)
                    server.send(video, time, said=a.sigmoid())
                loss = F.binary_cross_entropy(q, label) + model.unary_weight * F.binary_cross_entropy_with_logits(
                    a, label
                )
                q = moving_average(q, window)
                case.check(f"m{size}.ws{window}.call{call}.q", q)
                case.check(f"m{size}.ws{window}.call{call}.video", q.amax(0))
                case.check(f"m{size}.ws{window}.call{call}.loss", loss[None])
    case.assert_complete()


def test_clips_equal_the_successors_criterion():
    """PyVideoResearch puts clips into it: all their frames and their mean are rows, and the first frame speaks."""
    case = goldens.load("temporal_fields_asynctf_video")
    about = case.manifest["config"]
    widths = {"said": about["nclass"], "label": about["nclass"]}
    server = MessageServer(widths, about["memory_size"], 1.0, "recent", about["sigma"], strict=True, overwrite=False)
    left, right = (case.state()[f"mAA{side}.weight"].requires_grad_() for side in "ab")
    affinity = left.view(about["nclass"], -1) @ right.view(-1, about["nclass"])
    seen = torch.zeros(2, about["nclass"], dtype=torch.int64)
    for number, clips in enumerate(case.manifest["meta"]):
        raw = case.input(f"a{number}").requires_grad_()
        frames = about["frames"]
        a = F.interpolate(raw.transpose(1, 2), frames, mode="linear", align_corners=True).transpose(1, 2)
        label = case.stored[f"target{number}"]
        a = torch.cat([a.flatten(0, 1), raw.mean(1)])
        label = torch.cat([label.flatten(0, 1), label.amax(1)])
        case.check(f"{number}.target_unrolled", label.to(torch.uint8))
        clip = torch.cat([torch.arange(len(clips)).repeat_interleave(frames), torch.arange(len(clips))])
        video = torch.tensor([int(c["id"][1:]) for c in clips])[clip]
        time = torch.tensor([c["time"] for c in clips])[clip]
        heard = server.receive(video, time)
        q = refined(
            a, *(about["temporal_weight"] * heard.gather("said", side) for side in ("past", "future")), affinity
        )
        case.check(f"{number}.q", q)
        first = torch.arange(len(clips)) * frames
        server.send(video[first], time[first], said=a[first].sigmoid(), label=label[first].float())
        seen += torch.stack([len(label) - label.long().sum(0), label.long().sum(0)])
        known = F.binary_cross_entropy(balanced(q, label.float(), seen).clamp(0, 1), label.float())
        loss = (known + F.binary_cross_entropy_with_logits(a, label.float())) / 3
        case.check(f"{number}.loss", loss[None])
        grads = torch.autograd.grad(loss, (raw, left, right), retain_graph=True)
        for name, grad in zip(("a", "mAAa.weight", "mAAb.weight"), grads, strict=True):
            case.check(f"{number}.grad.{name}", grad)
    model = model_of(goldens.load("temporal_fields_asynctf_sync"))
    model.temporal_weight, model.sigma = about["temporal_weight"], about["sigma"]
    model.head.left.data, model.head.right.data = left.view(7, -1).detach(), right.view(-1, 7).detach()
    time = torch.tensor(case.manifest["test_times"])
    q = moving_average(model.message_passing(case.input("a_test").mean(1), time), about["window_smooth"])
    case.check("test.q", q)
    case.check("test.video", q.amax(0))
    case.assert_complete()


@pytest.mark.slow
def test_the_whole_network_under_the_ports_names():
    case = goldens.load("temporal_fields_resnet152")
    model = registry.create("async_tf").eval()
    model.load_state_dict(model.upstream_keys(case.state()))
    maps = {name: model.backbone.get_submodule(name) for name in ("maxpool", *(f"layer{n}" for n in range(1, 5)))}
    seen = {}
    for name, part in maps.items():
        part.register_forward_hook(lambda _m, _i, out, name=name: seen.__setitem__(name, out))
    with torch.inference_mode():
        features = model.backbone(case.input("image"))
        for name, value in {**seen, "avgpool": features, "logits": model.head(features)}.items():
            if name in case.outputs:
                case.check_relative(name, value)
            else:
                case.check_relative(f"{name}#every211", value.flatten()[::211])
                wide = value.double()
                case.check_relative(f"{name}#mean_std", torch.stack([wide.mean(), wide.std(correction=0)]))
    case.check("affinity", model.head.affinity)
    case.assert_complete()


def test_the_ports_file_as_python_2_wrote_it(online, monkeypatch, tmp_path):  # noqa: F811
    """DataParallel's prefix, no counters of batch norm, an affinity that lies flat; a small network in its place."""
    monkeypatch.setattr(async_tf.timm, "create_model", functools.partial(resnet, timm.create_model))
    model = registry.create("async_tf").eval()
    shapes = {key: value.shape for key, value in model.state_dict().items()}
    model.load_state_dict({key: torch.from_numpy(value) for key, value in recipe.state_dict(shapes).items()})
    names = {"unary.weight": "mA.weight", "unary.bias": "mA.bias", "left": "mAAa.weight", "right": "mAAb.weight"}
    state = OrderedDict()
    for key, value in model.state_dict().items():
        part, _, rest = key.partition(".")
        if not key.endswith("num_batches_tracked"):
            name = rest if part == "backbone" else f"fc.{names[rest]}"
            state[f"module.{name}"] = value.reshape(-1, 1) if name.startswith("fc.mAA") else value
    path = tmp_path / "asynctf_rgb.pth.tar"
    content = {"epoch": 5, "arch": "resnet152", "state_dict": state, "mAP": np.float64(0.261), "optimizer": {}}
    write_python2(path, content)
    address = manifest().get("async_tf.charades").source.url.split("/", 3)[3].partition("?")[0]
    online.plain[f"/{address}"] = Plain(path.read_bytes())
    found = zoo.load("async_tf")
    assert (found.labels, found.checkpoint.name) == (packaged_vocabulary().classes, "async_tf.charades")
    batch = {"rgb": torch.randint(0, 256, (5, 3, 64, 64), dtype=torch.uint8), "rgb_time": torch.arange(1, 300, 60)}
    batch["lengths"] = torch.tensor([5])
    with torch.inference_mode():
        for a, b in zip(found.scores(batch)[0], model.scores(batch)[0], strict=True):
            assert torch.equal(a, b)
    other = zoo.load("async_tf", num_classes=7, rank=2)
    assert (other.labels, other.head.affinity.shape) == (None, (7, 7))
    assert zoo.load("async_tf", weights=path, points=9).spec.moments.points == 9
    with pytest.raises(zoo.WeightsError, match=r"found was: fc\.bias, fc\.weight\. Are these"):
        model.upstream_keys({"module.fc.weight": torch.zeros(157, 8), "module.fc.bias": torch.zeros(157)})


def resnet(create, name, **options):
    assert name == "resnet152"
    return create("resnet18", layers=[1, 1, 1, 1], channels=[4, 4, 8, 8], **options)


def test_balance_scales_gradients_only():
    q = torch.tensor([[0.2, 0.7]], requires_grad=True)
    seen = torch.tensor([[9, 5], [1, 5]])
    value = balanced(q, torch.tensor([[1.0, 0.0]]), seen)
    torch.testing.assert_close(value, q)
    value.sum().backward()
    assert q.grad.tolist() == [[5.0, 1.0]]


def test_the_affinity_is_asymmetric():
    affinity = torch.tensor([[0.0, 2.0], [0.0, 0.0]])  # category 0 comes before category 1
    a, zero, first = torch.zeros(1, 2), torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])
    assert refined(a, first, zero, affinity)[0, 1] > 0.8
    assert refined(a, zero, first, affinity)[0, 1] == 0.5
    y = torch.tensor([[0.0, 1.0]])
    assert adjustment(first, zero, affinity, y)[0] > 0 == adjustment(first, zero, affinity, y)[1]


def test_half_precision_is_for_the_network_alone():
    """Logits may come in sixteen bits; what follows has 32, under autocast too."""
    torch.manual_seed(0)
    model = AsyncTF(nn.Identity(), 3, spec=SPEC, recipe=Recipe(), num_classes=4)
    batch = {
        "video": torch.zeros(5, dtype=torch.int64),
        "rgb_time": torch.arange(1, 6),
        "label": torch.randint(2, (5, 4), dtype=torch.uint8),
    }
    a = torch.randn(5, 4).bfloat16()
    losses = []
    for logits in (a, a.float()):
        model.server.clear()
        model.seen.zero_()
        with torch.autocast("cpu", torch.bfloat16):
            for _ in range(2):  # the second time there is mail
                loss, _ = model.loss(logits, batch)
            losses.append(loss)
            assert model.message_passing(logits, batch["rgb_time"]).dtype == torch.float32
    assert losses[0].dtype == torch.float32
    torch.testing.assert_close(losses[0], losses[1])
