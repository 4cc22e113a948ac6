"""The contrastive random walk against its release, and what its patches and steps are."""

from __future__ import annotations

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

import zoo
from tests.goldens import load
from zoo.methods.contrastive_random_walk import ContrastiveRandomWalk, transitions, walk_losses, walks
from zoo.networks.frame_encoder import unit
from zoo.networks.patch_grid import grid_patches, patch_corners, random_boxes

WHOLE = torch.tensor([0.0, 0.0, 1.0, 1.0])


@pytest.mark.slow
@torch.inference_mode()
def test_nodes_walks_and_losses_are_the_releases():
    case = load("contrastive_random_walk_loss")
    model = zoo.create("contrastive_random_walk").eval()
    model.load_state_dict(model.upstream_keys(case.state()))
    patches = (case.input("clip") + 2 * case.input("shift")).unflatten(2, (6, 3))
    nodes = model.nodes(patches)
    case.check("nodes", nodes)
    losses, hits = walk_losses(walks(nodes, case.manifest["config"]["temperature"]))
    case.check("loss", losses.mean().view(1))
    for n in (1, 2):
        case.check(f"diag.64_xent_cyc_r{n}", losses[n - 1].view(1))
        case.check(f"diag.64_acc_cyc_r{n}", hits[n - 1].view(1))
    case.assert_complete()


def test_patches_that_stay_themselves_are_walked_home():
    torch.manual_seed(0)
    nodes = unit(torch.randn(2, 32, 1, 5)).expand(-1, -1, 4, -1)
    ends = walks(nodes)
    assert [tuple(end.shape) for end in ends] == [(2, 5, 5)] * 2  # two and three frames ahead; one is left out
    for end in ends:
        torch.testing.assert_close(end.sum(-1), torch.ones(2, 5))
    losses, hits = walk_losses(ends)
    assert hits.tolist() == [1, 1]
    assert losses.max() < 0.1
    shuffled = nodes.clone()
    shuffled[:, :, 2] = unit(torch.randn(2, 32, 5))
    assert walk_losses(walks(shuffled))[0][0] > 10 * losses[0]


def test_dropped_steps_are_not_taken_there_nor_back():
    torch.manual_seed(0)
    nodes = unit(torch.rand(3, 8, 2, 40))
    (there,), (back,) = transitions(nodes, temperature=1, dropout=0.2)
    gone = there == 0
    assert 0.15 < float(gone.float().mean()) < 0.25
    assert (back.transpose(1, 2)[gone] == 0).all()
    assert 0.3 < float((back == 0).float().mean()) < 0.42  # 1 - 0.8 squared
    torch.testing.assert_close(there.sum(-1), torch.ones(3, 40))
    (there,), (back,) = transitions(nodes, temperature=1)
    assert min(there.min(), back.min()) > 0


def test_boxes_are_of_the_area_and_shape_asked_for_and_lie_inside():
    torch.manual_seed(0)
    boxes = random_boxes((50, 40), (0.7, 0.9), (3 / 4, 4 / 3))
    left, top, width, height = boxes.unbind(-1)
    for start, side in ((left, width), (top, height)):
        assert start.min() >= 0
        assert (start + side).max() <= 1 + 1e-6
    area, ratio = width * height, width / height
    assert 0.7 <= area.min() < 0.71
    assert 0.88 < area.max() <= 0.9 + 1e-6
    assert 3 / 4 <= ratio.min() < 0.78
    assert 1.29 < ratio.max() <= 4 / 3 + 1e-6
    assert torch.equal(random_boxes((5,), (0.99, 0.999), (3, 4)), WHOLE.expand(5, 4))  # nothing like that fits


def test_unjittered_patches_are_the_pixels_of_the_grid():
    torch.manual_seed(0)
    clips = torch.rand(2, 3, 3, 64, 64)
    corners = patch_corners(64, 32, 16)
    assert corners.tolist()[:4] == [[0, 0], [16, 0], [32, 0], [0, 16]]
    patches = grid_patches(clips, WHOLE.expand(2, 3, 4), WHOLE.expand(2, 3, 9, 4), patch=32, stride=16)
    assert patches.shape == (2, 3, 9, 3, 32, 32)
    for n, (left, top) in enumerate(corners.tolist()):
        expected = clips.transpose(1, 2)[..., top : top + 32, left : left + 32]
        torch.testing.assert_close(patches[:, :, n], expected, atol=1e-5, rtol=1e-5)


def test_jitter_reads_the_box_of_the_box():
    """A frame whose colours are its coordinates shows where a patch was read."""
    line = (torch.arange(64) + 0.5) / 64
    y, x = torch.meshgrid(line, line, indexing="ij")
    clips = torch.stack((x, y, 0 * x)).view(1, 3, 1, 64, 64)
    frame, inner = torch.tensor([0.2, 0.1, 0.6, 0.5]), torch.tensor([0.25, 0.5, 0.5, 0.25])
    patches = grid_patches(clips, frame.view(1, 1, 4), inner.expand(1, 1, 9, 4), patch=32, stride=16)
    for n, (left, top) in enumerate(patch_corners(64, 32, 16).tolist()):
        middle_x = 0.2 + 0.6 * (left + 32 * (0.25 + 0.5 / 2)) / 64
        middle_y = 0.1 + 0.5 * (top + 32 * (0.5 + 0.25 / 2)) / 64
        assert float(patches[0, 0, n, 0].mean()) == pytest.approx(middle_x, abs=1e-4)
        assert float(patches[0, 0, n, 1].mean()) == pytest.approx(middle_y, abs=1e-4)


def small(**options) -> ContrastiveRandomWalk:
    """The method with a network that trains in a second."""
    from zoo.methods.contrastive_random_walk import SPEC
    from zoo.networks.frame_encoder import FrameEncoder

    sizes = {"layers": (1, 1, 1, 1), "channels": (8, 8, 16, 24)}
    encoder = FrameEncoder("resnet18", last="layer4", output="layer3", projection=None, padding_mode="reflect", **sizes)
    return ContrastiveRandomWalk(encoder, 24, nodes=16, patch=32, patch_stride=16, spec=SPEC.replace(**options))


def test_it_trains_and_its_rate_falls_towards_the_end():
    pl.seed_everything(0)
    model = small(crop=64, short_side=(64, 64), test_crop=64, test_short_side=64)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    rates: list[float] = []

    class Rates(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, *rest: object) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    clips = [{"clips": torch.randint(0, 256, (3, 4, 64, 64), dtype=torch.uint8)} for _ in range(2)]
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(accelerator="cpu", max_epochs=5, callbacks=[Rates()], enable_model_summary=False, **quiet)
    trainer.fit(model, DataLoader(clips, 2))
    assert rates == pytest.approx([1e-4] * 4 + [3e-5])
    assert not any(torch.equal(p, before[name]) for name, p in model.named_parameters())  # all of it learns
    assert {"train_loss", "walks_home"} <= set(trainer.callback_metrics)


def test_half_precision_reads_the_same_pixels():
    torch.manual_seed(0)
    model = small()
    clips = torch.rand(1, 3, 4, 256, 256)
    torch.manual_seed(1)
    exact = model.samples(clips)
    torch.manual_seed(1)
    assert model.samples(clips.bfloat16()).dtype == torch.bfloat16
    torch.manual_seed(1)
    torch.testing.assert_close(model.samples(clips.bfloat16()).float(), exact, atol=0.01, rtol=0)


def test_walks_are_of_32_bits_under_mixed_precision():
    """What rounds to zero in half precision has an infinite loss."""
    torch.manual_seed(0)
    nodes = unit(torch.randn(1, 32, 4, 25)).requires_grad_()
    losses = walk_losses(walks(nodes, temperature=0.01))[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(walk_losses(walks(nodes, temperature=0.01))[0], losses)


def test_features_are_the_third_stages_and_propagation_is_the_walks():
    model = zoo.create("contrastive_random_walk")
    assert (model.encoder.channels, model.encoder.stride) == (256, 8)
    assert all(
        m.padding_mode == "reflect"
        for m in model.encoder.modules()
        if getattr(m, "padding", 0) not in (0, (0, 0)) and isinstance(m, torch.nn.Conv2d)
    )
    p = model.propagation
    assert (p.size, p.references, p.topk, p.temperature, p.radius) == (None, 20, 10, 0.05, 12)
    assert p.joint
    assert not p.rescale
    p = zoo.create("contrastive_random_walk", references=5, topk=3, size=320, radius=5).propagation
    assert (p.size, p.references, p.topk, p.radius) == (320, 5, 3, 5)


def test_older_files_and_foreign_ones():
    case = load("contrastive_random_walk_loss")
    state = {
        key.replace("conv1.weight", "conv1.1.weight").replace("conv2.weight", "conv2.1.weight"): value
        for key, value in case.state().items()
        if not key.endswith("num_batches_tracked")
    }
    with torch.device("meta"):
        own = zoo.create("contrastive_random_walk").state_dict()
    converted = ContrastiveRandomWalk.upstream_keys(state)
    assert {key: value.shape for key, value in converted.items()} == {key: value.shape for key, value in own.items()}
    assert ContrastiveRandomWalk.upstream_keys(own).keys() == own.keys()
    foreign = {"encoder.model.fc.bias": torch.zeros(1), "selfsim_fc.2.weight": torch.zeros(1)}
    with pytest.raises(zoo.WeightsError, match=r"encoder\.model\.fc\.bias, selfsim_fc\.2\.weight"):
        ContrastiveRandomWalk.upstream_keys({**state, **foreign})


def test_wrong_arguments_are_refused():
    with pytest.raises(zoo.ZooError, match="3 frames or more, not 2"):
        small(frames=2)
    with pytest.raises(zoo.ZooError, match="'reflect' or 'zeros', not 'ones'"):
        zoo.create("contrastive_random_walk", padding_mode="ones")
