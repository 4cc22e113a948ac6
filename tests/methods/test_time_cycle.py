"""TimeCycle against its release: features, a training step's losses and gradients, the pixels of training samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader

from tests.goldens import Case, load, recipe
from zoo import create
from zoo.data.sampling import last_start, past_and_target
from zoo.errors import WeightsError, ZooError
from zoo.methods.time_cycle import SPEC, TimeCycle, total
from zoo.networks.frame_encoder import unit
from zoo.networks.moving_patch import Draws, choose_cells, motion_scores, place_patches
from zoo.networks.tracker import OFFSET, affinity, alignment, crop, transform

SHAPES = load("time_cycle_encoder").manifest["shapes"]


def build(case: Case, **arguments: Any) -> TimeCycle:
    """The release's model with the case's weights."""
    model = create("time_cycle_r50", **arguments)
    state = case.state()
    for key, factor in case.manifest.get("scale", {}).items():
        state[key] *= factor
    model.load_state_dict(model.upstream_keys(state))
    return model.eval()


def check_sample(case: Case, name: str, actual: Tensor) -> None:
    """Mean, deviation and every n-th value of a big tensor."""
    scale = 1e-3 * float(case.outputs[f"{name}.sample"].abs().max())
    case.check(f"{name}.sample", actual.flatten()[:: case.manifest["sample_stride"][name]], atol=scale)
    case.check(f"{name}.mean", actual.mean().view(1), atol=scale)
    case.check(f"{name}.std", actual.std(correction=0).view(1), atol=scale)


@pytest.mark.slow
@torch.inference_mode()
def test_features_and_affinity_are_the_releases():
    case = load("time_cycle_encoder")
    model = build(case)
    clip = case.input("clip")
    seen: dict[str, Tensor] = {}
    names = {"maxpool1": "maxpool", "layer1": "layer1", "layer2": "layer2", "layer3": "layer3"}
    for theirs, ours in names.items():
        getattr(model.encoder, ours).register_forward_hook(
            lambda module, args, output, name=theirs: seen.update({name: output.clone()})
        )
    seen["feat"] = model(clip.transpose(1, 2))[0].transpose(0, 1)
    seen["norm"] = unit(seen["feat"])
    for name, frames in seen.items():
        check_sample(case, name, frames.transpose(0, 1))  # theirs are [C, T, h, w]
    side = case.manifest["config"]["affinity_crop"]
    *references, query = unit(model(clip[..., :side, :side].transpose(1, 2)))[0].unbind(1)
    found = affinity(query.expand(len(references), -1, -1, -1), torch.stack(references))
    columns = found.unflatten(1, (side // 8, side // 8)).transpose(1, 2).flatten(1, 2)
    check_sample(case, "affinity", columns)
    case.assert_complete()


@pytest.mark.slow
def test_losses_and_gradients_are_the_releases():
    case = load("time_cycle_losses")
    config, gradients = case.manifest["config"], case.manifest["rtol_of_gradients"]
    past, target = case.input("imgs").transpose(1, 2), case.input("img")[:, 0]
    x, y, angle = (torch.tensor(config[f"patch_{name}"]) for name in ("xloc", "yloc", "angle"))
    theta = transform((2 * x - 1) * 2 / 3, (2 * y - 1) * 2 / 3, angle)
    case.check("theta_gt", theta)
    patch = crop(target, theta, 80)
    check_sample(case, "patch", patch)
    for name, offset in (("offset_227_210", OFFSET), ("offset_1", 1.0)):
        model = build(case, offset=offset).train()
        seen: list[Tensor] = []
        model.encoder.register_forward_hook(lambda module, args, output, seen=seen: seen.append(output))
        cycles = model.cycles(past, target, patch)
        losses = cycles.losses(theta)
        loss = total(losses)
        loss.backward()
        check_sample(case, "patch_feat", seen[1])
        case.check("bn1.running_mean_after", model.encoder.bn1.running_mean)
        # Theirs are by sample, then frame; and every cycle walks its whole way back.
        case.check(f"{name}.theta_direct", cycles.direct.transpose(0, 1).flatten(0, 1), atol=5e-5)
        case.check(f"{name}.theta_skip", cycles.skip.transpose(0, 1).flatten(0, 1), atol=5e-5)
        case.check(f"{name}.theta_back", torch.cat([cycles.backward[:i] for i in range(1, 5)]), atol=5e-5)
        case.check(f"{name}.theta_forw", torch.cat(cycles.forward))
        case.check(f"{name}.loss_cycle", torch.stack([alignment(way[-1], theta) for way in cycles.forward]))
        case.check(f"{name}.loss_skip", losses["L_skip"].view(1))
        case.check(f"{name}.loss_inlier", losses["L_sim"].view(1))
        case.check(f"{name}.loss_total", loss.view(1))
        torch.testing.assert_close(losses["L_long"], case.outputs[f"{name}.loss_cycle"].mean(), atol=1e-5, rtol=1e-3)
        parameters = dict(model.named_parameters())
        norm = torch.stack([p.grad.norm() for p in parameters.values()]).norm()
        case.check(f"{name}.grad_total_norm", norm.view(1), rtol=gradients)
        for output in case.outputs:
            if output.startswith(prefix := f"{name}.grad_norm."):
                ours = only_key(output.removeprefix(prefix))
                case.check(output, parameters[ours].grad.norm().view(1), rtol=gradients)
        case.check(f"{name}.grad.module.linear2.bias", model.localizer.linear.bias.grad, atol=1e-4, rtol=gradients)
    case.assert_complete()


def only_key(theirs: str) -> str:
    """What one of the release's weights is called here."""
    return next(iter(TimeCycle.upstream_keys({theirs: torch.zeros(1)})))


def golden_sample(case: Case, number: int) -> tuple[Tensor, Draws]:
    """A sample's frames, resized, cropped and normalised, ``[1, 3, 6, 240, 240]``, not yet mirrored; and its draws."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (SPEC.mean, SPEC.std))
    sample = case.manifest["config"]["samples"][number]
    files = case.outputs[f"{number}.frames"].tolist()
    shape = case.manifest["inputs"]["frame_<n>"]
    frames = [0.5 + 0.15 * torch.from_numpy(recipe.inputs(f"frame_{n}", shape, 0)) for n in files]
    large = interpolate(torch.stack(frames), size=(256, 320), mode="bilinear", align_corners=False)
    x, y = sample["crop_offset_xy"]
    clip = (large[..., y : y + 240, x : x + 240] - mean) / std
    draws = Draws(
        torch.tensor([sample["flip"]]),
        torch.tensor([(sample["rank_in_top10"] + 0.5) / 10]),
        torch.tensor([sample["uniform_draws_of_jitter"]]),
        torch.tensor([sample["uniform_draw_of_angle"]]),
    )
    return clip.transpose(0, 1).unsqueeze(0), draws


def test_training_samples_are_the_releases():
    case = load("time_cycle_vlog_sample")
    rng = np.random.default_rng(0)  # starts are given, so it draws nothing
    rows = []
    for n, start, *_ in case.outputs["frames"].tolist():
        frames = past_and_target(n, rng, start=start) + 1  # file names count from one
        rows.append([n, start, last_start(n), *frames.tolist()])
    case.check("frames", torch.tensor(rows))
    for number, sample in enumerate(case.manifest["config"]["samples"]):
        frames = past_and_target(sample["frames_in_folder"], rng, start=sample["startframe"]) + 1
        case.check(f"{number}.frames", torch.from_numpy(frames))
        # The release never draws the last place where a crop fits; `zoo.data.sampling.random_crop` does.
        case.check(f"{number}.crop_range_max", torch.tensor([320 - 240, 256 - 240]) - 1)
        check_pixels_and_place(case, number)
    case.assert_complete()


def shapes_only(**arguments: Any) -> TimeCycle:
    """The full model without memory for its weights, which choosing patches does not need."""
    with torch.device("meta"):
        return create("time_cycle_r18", **arguments)


def check_pixels_and_place(case: Case, number: int) -> None:
    clip, draws = golden_sample(case, number)
    model = shapes_only()
    past, target, patch, theta = model.samples(clip, draws)
    check_sample(case, f"{number}.imgs", past.transpose(1, 2))
    check_sample(case, f"{number}.target", target)
    check_sample(case, f"{number}.patch", patch)
    case.check(f"{number}.theta", theta[0])
    mirror = bool(draws.mirror)
    scores = motion_scores(target, clip[:, :, -1].flip(-1) if mirror else clip[:, :, -1])
    case.check(f"{number}.scores", scores.flatten().double(), atol=0.05)  # sums of 18,252 numbers in 32 bits
    case.check(f"{number}.top10", scores.flatten().topk(10).indices.flip(0))
    case.check(f"{number}.cell", choose_cells(scores, draws, mirror_column=True)[0])


def draws_of(*choices: float, mirror: bool = False) -> Draws:
    """Of samples without jitter or angle."""
    n = len(choices)
    return Draws(torch.tensor([mirror] * n), torch.tensor(choices), torch.full((n, 2), 0.5), torch.full((n,), 0.5))


def moving(samples: int) -> Tensor:
    """Clips whose target frame changes in one place only, right of the centre."""
    clip = torch.zeros(samples, 3, 6, 240, 240)
    clip[:, :, -1, 78:156, 104:182] = 1  # the window in column 4 and row 3
    return clip


def test_the_patch_is_where_the_motion_is_unless_the_sample_is_mirrored_as_in_the_release():
    centres = {}
    for patches in ("release", "motion"):
        model = shapes_only(patches=patches)
        for mirror in (False, True):
            theta = model.samples(moving(1), draws_of(0.95, mirror=mirror))[-1]
            centres[patches, mirror] = float(theta[0, 0, 2])
    right = pytest.approx(2 / 9, abs=1e-6)
    assert centres == {
        ("release", False): right,
        ("motion", False): right,
        ("motion", True): pytest.approx(-2 / 9, abs=1e-6),  # the frames are mirrored, and so is the motion
        ("release", True): right,
    }


def test_where_nothing_moves_the_patch_may_be_anywhere():
    scores = torch.zeros(49, 7, 7)
    cells = choose_cells(scores, draws_of(*((torch.arange(49) + 0.5) / 49).tolist()), mirror_column=True)
    assert len(set(map(tuple, cells.tolist()))) == 49


def test_patches_lie_in_the_frame_and_half_of_the_samples_are_mirrored():
    torch.manual_seed(0)
    draws = Draws.random(2000)
    assert 0.45 < float(draws.mirror.float().mean()) < 0.55
    scores = torch.rand(2000, 7, 7)
    cells = choose_cells(scores, draws, mirror_column=False)
    chosen = scores.flatten(1).gather(1, (cells[:, :1] * 7 + cells[:, 1:]))
    rank = (scores.flatten(1) > chosen).sum(1)
    assert sorted(rank.unique().tolist()) == list(range(10))
    theta = place_patches(cells, draws)
    assert theta[:, :, 2].abs().max() <= 2 / 3 + 1e-6
    angle = torch.atan2(theta[:, 1, 0], theta[:, 0, 0])
    assert 0.7 < angle.abs().max() <= torch.pi / 4
    torch.testing.assert_close(theta[:, :, :2].norm(dim=1), torch.full((2000, 2), 1 / 3))


SMALL = {"crop": 72, "stride": 8, "width": 8, "projection": 16}


def loader() -> DataLoader:
    """Two batches of two clips."""
    generator = torch.Generator().manual_seed(0)
    clips = torch.randint(0, 256, (4, 3, 6, 72, 72), dtype=torch.uint8, generator=generator)
    return DataLoader([{"clips": clip} for clip in clips], 2)


def fit(model: TimeCycle, **arguments: Any) -> pl.Trainer:
    pl.seed_everything(0)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(accelerator="cpu", enable_model_summary=False, **quiet, **arguments)
    trainer.fit(model, loader())
    return trainer


def moved(model: TimeCycle, before: dict[str, Tensor]) -> set[str]:
    """Which of the model's two parts have learned."""
    return {name.partition(".")[0] for name, p in model.named_parameters() if not torch.equal(p, before[name])}


def test_a_warm_up_teaches_the_localizer_alone_and_the_first_step_after_it_is_no_longer_than_others():
    torch.manual_seed(0)
    model = create("time_cycle_tiny", warmup=1, **SMALL)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    fit(model, max_epochs=1)
    assert moved(model, before) == {"localizer"}
    model = create("time_cycle_tiny", warmup=1, **SMALL)
    before = {name: p.detach().clone() for name, p in model.encoder.named_parameters()}
    fit(model, max_steps=3, max_epochs=-1)  # the third is of the second epoch
    lengths = [float((p.detach() - before[name]).abs().max()) for name, p in model.encoder.named_parameters()]
    assert 0 < max(lengths) <= model.recipe.rate * 1.001


@pytest.mark.parametrize("own_frame", [0.0, 0.5])
def test_it_logs_its_losses_and_a_run_can_be_repeated(own_frame):
    metrics, states = [], []
    for _ in range(2):
        torch.manual_seed(0)
        model = create("time_cycle_tiny", own_frame=own_frame, **SMALL)
        metrics.append(fit(model, max_epochs=1).callback_metrics)
        states.append(model.state_dict())
    assert set(metrics[0]) == {"train_loss", "L_sim", "L_long", "L_skip", *["L_own"] * bool(own_frame)}
    assert metrics[0] == metrics[1]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    weights = {"L_sim": 1.0, "L_skip": 0.1, "L_long": 0.02, "L_own": own_frame}
    weighted = sum(weights[name] * float(value) for name, value in metrics[0].items() if name != "train_loss")
    assert float(metrics[0]["train_loss"]) == pytest.approx(weighted, rel=1e-5)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_it_trains_in_half_precision(precision):
    metrics = fit(create("time_cycle_tiny", **SMALL), max_epochs=1, precision=precision).callback_metrics
    assert all(value.isfinite() for value in metrics.values())


@pytest.mark.parametrize(("told", "norm"), [({}, 10.0), ({"gradient_clip_val": 0.5}, 0.5)])
def test_gradients_are_clipped_at_ten_unless_the_trainer_says_otherwise(told, norm):
    model = create("time_cycle_tiny", **SMALL)
    seen: list[float] = []

    class Watch(pl.Callback):
        def on_after_backward(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
            for parameter in module.parameters():
                parameter.grad.fill_(1.0)

        def on_before_zero_grad(self, trainer: pl.Trainer, module: pl.LightningModule, optimizer: Any) -> None:
            grads = [p.grad for p in module.parameters() if p.grad is not None]
            if grads:
                seen.append(float(torch.stack([g.norm() for g in grads]).norm()))

    fit(model, max_steps=2, callbacks=[Watch()], **told)
    assert seen[-1] == pytest.approx(norm, rel=1e-3)


def test_the_optimizer_is_the_papers():
    model = create("time_cycle_r50")
    group = model.configure_optimizers().param_groups[0]
    assert (group["lr"], group["betas"], group["weight_decay"]) == (2e-4, (0.5, 0.999), 0)
    assert model.recipe.steps(32) == 106_875
    assert create("time_cycle_tiny", learning_rate=3e-3).recipe.rate == 3e-3


def test_the_release_keys_are_read_whichever_torch_wrote_them():
    state = {key: torch.zeros(shape) for key, shape in SHAPES.items() if not key.endswith("num_batches_tracked")}
    with torch.device("meta"):
        own = create("time_cycle_r50").state_dict()
    converted = TimeCycle.upstream_keys(state)
    assert {name: value.shape for name, value in converted.items()} == {name: v.shape for name, v in own.items()}
    assert TimeCycle.upstream_keys(own).keys() == own.keys()  # ours stay as they are


def test_foreign_keys_are_refused_by_name():
    state = {"module.encoderVideo.conv1.weight": torch.zeros(64, 3, 1, 7, 7)}
    with pytest.raises(WeightsError, match=r"module\.encoderVideo\.fc\.weight, module\.head\.bias"):
        TimeCycle.upstream_keys({**state, "module.encoderVideo.fc.weight": torch.zeros(1), "module.head.bias": 0})
    with pytest.raises(WeightsError, match=r"\[64, 3, 5, 7, 7\]; its kernels must span one frame"):
        TimeCycle.upstream_keys({"module.encoderVideo.conv1.weight": torch.zeros(64, 3, 5, 7, 7)})


def test_wrong_arguments_are_refused():
    with pytest.raises(ZooError, match="18 or 50 layers, not 101"):
        create("time_cycle_r50", depth=101)
    with pytest.raises(ZooError, match="multiple of 24"):
        create("time_cycle_tiny", crop=100, stride=8)


def test_users_set_how_labels_are_carried():
    model = create("time_cycle_r18", size=480, references=3, topk=10)
    p = model.propagation
    assert (p.size, p.references, p.topk, p.temperature) == (480, 3, 10, 512**-0.5)
    assert not p.joint
    assert p.rescale


def test_an_image_network_may_be_the_start():
    import timm

    torch.manual_seed(0)
    model = create("time_cycle_r18")
    assert model.image_backbone == "resnet18.tv_in1k"
    fresh = model.encoder.projection.weight.clone()
    state = timm.create_model("resnet18").state_dict()
    model.start_from_image(state)
    assert torch.equal(model.encoder.layer3[1].conv2.weight, state["layer3.1.conv2.weight"])
    assert torch.equal(model.encoder.projection.weight, fresh)
    del state["bn1.bias"]
    with pytest.raises(WeightsError, match=r"missing bn1\.bias; no place for layer1\.0\.conv3\.weight"):
        model.start_from_image({**state, "layer1.0.conv3.weight": torch.zeros(1)})
