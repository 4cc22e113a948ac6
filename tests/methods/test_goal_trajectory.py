"""The trajectory model against the goals code: network, losses, gradients, perturbed sequences; its published names."""

from __future__ import annotations

from random import Random

import pytest
import torch

import zoo
from tests import goldens
from tests.goldens import recipe
from zoo.errors import WeightsError
from zoo.hub.weights import load_strict
from zoo.methods.goal_trajectory import LAMBDA, coherence_loss
from zoo.methods.intentionality import class_weights, failure_loss, finite
from zoo.networks.sequences import perturbed, split, whole


def model_of(case: goldens.Case) -> zoo.methods.goal_trajectory.GoalTrajectory:
    """The full model with a case's weights; what the case does not store of the encoder stays fresh."""
    model = zoo.create("goal_trajectory").eval()
    state = model.upstream_keys(case.state())
    if "encoder.fc.weight" not in state:  # the case replaces the encoder by the identity
        state = {**model.state_dict(), **state}
    load_strict(model, state)
    return model


@pytest.mark.slow
def test_forward_losses_and_gradients():
    case = goldens.load("goal_trajectory_forward")
    model = model_of(case)
    clips, lengths, label = case.input("videos").requires_grad_(), case.stored["lens"].tolist(), case.stored["labels"]
    seen = {}
    for stage in ("stem", "layer1", "layer2", "layer3", "layer4"):
        getattr(model.encoder, stage).register_forward_hook(lambda _, __, out, stage=stage: seen.update({stage: out}))
    phi = model.encode(clips)
    layout = whole(lengths)
    h = model.contextualize(phi, layout)
    logits, labels = model.classify(h), layout.labels(label)
    case.check("phi", phi)
    case.check("h", h)
    case.check("h_per_clip", layout.collect(h))
    case.check("clip_logits", logits.flatten(0, 1))
    case.check("nsp_logits", model.coherence(h))
    case.check("nsp_labels", layout.consistent)
    case.check("nsp_loss", coherence_loss(model.coherence(h), layout.consistent))
    case.check("token_labels", labels.flatten())
    case.check("token_lens", (~layout.is_padding).sum(1))
    right = (logits.argmax(-1) == labels)[labels >= 0]
    case.check("clip_acc_percent", 100 * right.float().mean())
    case.check("clip_loss", failure_loss(logits.flatten(0, 1), labels.flatten()))
    loss = failure_loss(logits.flatten(0, 1), labels.flatten(), case.stored["class_weights"])
    case.check("clip_loss_weighted", loss)
    seen["avgpool"] = seen["layer4"].mean((2, 3, 4), keepdim=True)
    for stage, out in seen.items():
        case.check(f"act.{stage}.sub", goldens.thin(out, 256)[:256])
        case.check(f"act.{stage}.mean", out.mean())
        case.check(f"act.{stage}.std", out.std(correction=0))

    loss.backward()
    ours = dict(model.named_parameters())
    case.check("grad.word_embeddings.rownorms", model.transformer.words.weight.grad.norm(dim=1))
    case.check("gradnorm.videos", clips.grad.norm())
    for name in case.outputs:
        if name.startswith("gradnorm.") and name != "gradnorm.videos":
            key = name.removeprefix("gradnorm.")
            (our_key,) = model.upstream_keys({key: torch.zeros(())})
            case.check(name, ours[our_key].grad.norm())
    case.assert_complete()


def test_perturbed_sequences_draw_by_draw():
    case = goldens.load("goal_trajectory_sequences")
    model = model_of(case)
    model.class_weights = torch.tensor(case.manifest["config"]["class_weights"])
    for number, trial in enumerate(case.manifest["config"]["trials"]):
        t, args = f"t{number}", trial["args"]
        phi = torch.from_numpy(
            recipe.inputs(trial["phi_input"], case.manifest["inputs"][trial["phi_input"]], case.manifest["seed"])
        )
        lengths, label = trial["lens"], torch.tensor(trial["labels"])
        draws = Recorded(trial["rng_seed"])
        if args["nsp_split_at_oops"]:  # as for auto-correct: no part is drawn
            layout = split(lengths, [int((part == 0).sum()) for part in label.split(lengths)])
        else:
            layout = perturbed(
                lengths,
                draws,
                p_whole=args["p_no_sep_seq"],
                p_perturb=args["p_nsp_false"],
                p_swap=args["p_swap_seq_order"],
                longest=args["max_trajectory_size"],
                shortest=args["min_xfmr_seq_len"],
            )
            theirs = [draw[-1] for draw in trial["draws"] if draw[-1] not in ("ValueError", "IndexError")]
            assert draws.results == theirs
        owner = torch.repeat_interleave(torch.tensor(lengths))
        inside = torch.cat([torch.arange(n) for n in lengths])
        case.check(f"{t}.provenance", layout.place(100 * owner + inside, -1))
        case.check(f"{t}.labels", layout.labels(label))
        case.check(f"{t}.labels_before_masking", layout.place(label, -1))
        case.check(f"{t}.nsp_labels", layout.consistent)
        case.check(f"{t}.token_lens", (~layout.is_padding).sum(1))
        with torch.no_grad():
            h = model.contextualize(phi, layout)
            logits, order = model.classify(h), model.coherence(h)
            losses = model.losses(phi, label, layout)
        case.check(f"{t}.clip_logits", logits)
        case.check(f"{t}.nsp_logits", order)
        case.check(f"{t}.h.cls", h[:, 0])
        case.check(f"{t}.h.mean", h.mean())
        case.check(f"{t}.h.std", h.std(correction=0))
        case.check(f"{t}.clip_loss", losses["L_fail"])
        case.check(f"{t}.nsp_loss", losses["L_nsp"])
        case.check(f"{t}.total_loss", losses["L_fail"] + LAMBDA * losses["L_nsp"])
        case.check(
            f"{t}.clip_acc_percent", percent(logits.argmax(-1) == layout.labels(label), layout.labels(label) >= 0)
        )
        case.check(f"{t}.nsp_acc_percent", percent(order.argmax(-1) == layout.consistent, layout.consistent >= 0))
        case.check(f"{t}.times", layout.place(inside + 0.5, -1))
    case.assert_complete()


class Recorded:
    """Remembers what comes out of the three functions that the reference calls; a subclass would draw otherwise."""

    def __init__(self, seed: int) -> None:
        self.draws, self.results = Random(seed), []

    def __getattr__(self, name: str):
        def draw(*arguments):
            self.results.append(getattr(self.draws, name)(*arguments))
            return self.results[-1]

        return draw


def percent(right: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    return 100 * (right & counts).sum() / counts.sum().clamp(min=1)


def test_published_names_both_ways():
    case = goldens.load("goal_trajectory_forward")
    model, state = zoo.create("goal_trajectory"), case.state()
    wrapped = {f"module.{key}": value for key, value in state.items()}
    wrapped["module.video_transformer.embeddings.position_embeddings.pe"] = torch.zeros(1, 64, 512)
    wrapped["module.svo_decoder_head.1.weight"] = torch.zeros(2, 2)
    ours = model.upstream_keys(wrapped)
    assert ours.keys() == model.state_dict().keys()
    assert all(ours[key].shape == value.shape for key, value in model.state_dict().items())
    with pytest.raises(WeightsError, match=r"no place for 1 of .*video_transformer\.encoder\.layer\.0\.gate\.weight"):
        model.upstream_keys({**wrapped, "video_transformer.encoder.layer.0.gate.weight": torch.zeros(1)})


def test_size_is_the_papers():
    model = zoo.create("goal_trajectory")
    assert sum(p.numel() for p in model.parameters()) == 39_980_578


def test_class_weights_are_one_for_the_most_frequent():
    assert class_weights(torch.tensor([10, 2, 5])).tolist() == [1, 5, 2]
    assert class_weights(torch.tensor([0, 2, 4])).tolist() == [1, 2, 1]


def test_a_loss_of_nothing_is_nothing():
    logits = torch.randn(4, 3, requires_grad=True)
    loss = failure_loss(logits, torch.full((4,), -1), torch.tensor([1.0, 2.0, 3.0]))
    loss.backward()
    assert loss == 0
    assert logits.grad.abs().sum() == 0


def test_a_broken_batch_changes_nothing():
    layer = torch.nn.Linear(2, 1)
    with pytest.warns(UserWarning, match="skipped: its loss is nan"):
        finite(layer, layer.weight.sum() * torch.nan).backward()
    assert layer.weight.grad.abs().sum() == 0


def test_a_long_video_is_followed_in_parts():
    model = zoo.create("goal_trajectory_tiny").eval()
    phi = torch.randn(150, 64)
    h, logits = model.trace(phi, [150])
    assert h.shape == (150, 64)
    torch.testing.assert_close(logits[:50], model.trace(phi[:50], [50])[1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        model.trace(phi[20:30], [4, 6])[0][4:], model.trace(phi[24:30], [6])[0], atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("name", ["p_whole", "p_perturb", "p_swap"])
def test_probabilities_are_probabilities(name):
    with pytest.raises(zoo.ZooError, match=name):
        zoo.create("goal_trajectory", **{name: 1.5})
