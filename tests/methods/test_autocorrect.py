"""Auto-correct against the goals code, in both spaces; alone or in a batch; and its straight-line baseline."""

from __future__ import annotations

from dataclasses import replace

import torch

import zoo
from tests import goldens
from tests.goldens import recipe
from tests.methods.test_goal_trajectory import model_of
from zoo.methods.autocorrect import Settings, auto_correct, linearized, linearized_as_released

NEAR = 0.005  # share of the elements that a sign step may send the other way, as the case allows


def start_of(case: goldens.Case, name: str) -> torch.Tensor:
    return torch.from_numpy(recipe.inputs(name, case.manifest["inputs"][name], case.manifest["seed"]))


def check_most(case: goldens.Case, name: str, actual: torch.Tensor) -> None:
    """Equal on all but a few elements, whose gradient is near zero."""
    case.checked.add(name)
    expected = case.outputs[name]
    assert actual.shape == expected.shape
    different = (actual.double() - expected.double()).abs() > 1e-5
    assert different.float().mean() <= NEAR, name


def test_the_release_step_by_step():
    case = goldens.load("goal_trajectory_autocorrect")
    model = model_of(case)
    for number, variant in enumerate(case.manifest["config"]["variants"]):
        v, label = f"v{number}", torch.tensor(variant["labels"])
        settings = Settings(variant["space"], variant["alpha"], variant["eps"], variant["k_max"])
        phi, wrong, lengths = start_of(case, variant["phi_input"]), label > 0, [len(label)]
        found = auto_correct(model, phi, lengths, wrong, settings)
        layout = model.layout(lengths, [int((label == 0).sum())])

        def tokens(x: torch.Tensor, layout=layout, phi=phi, settings=settings) -> torch.Tensor:
            with torch.no_grad():
                if settings.space == "phi":
                    return model.contextualize(x, layout)
                return torch.where(layout.is_clip[..., None], layout.place(x), model.contextualize(phi, layout))

        case.check(f"{v}.token_labels", layout.labels(label).flatten())
        case.check(f"{v}.h_before", found.before)
        before = tokens(phi if settings.space == "phi" else found.before)
        case.check(f"{v}.logits_before", model.classify(before)[0])
        # The reference reports what it evaluated last; where it ran out of iterations that is a step before the end.
        last = found if found.done[0] else auto_correct(
            model, phi, lengths, wrong, replace(settings, iterations=settings.iterations - 1)
        )  # fmt: skip
        case.check(f"{v}.h_last_evaluated", last.h)
        case.check(f"{v}.logits_last_evaluated", model.classify(tokens(last.moved))[0])
        check_most(case, f"{v}.corrected", found.moved)
        case.check(f"{v}.stop_iteration", found.iterations[0] - 1)

        curves = {name: torch.stack([getattr(e, name)[0] for e in found.history]) for name in vars(found.history[0])}
        case.check(f"{v}.clip_loss", curves["failure"])
        case.check(f"{v}.clip_acc_percent", 100 * curves["corrected"])
        first = curves["coherence"][:1]
        case.check(f"{v}.nsp_loss", torch.cat((first, curves["coherence"])))
        case.check(f"{v}.nsp_correction_active", 100.0 * (curves["coherence"] > first))
        kept = 100 * curves["kept"]
        case.check(f"{v}.preoops_acc_percent", torch.cat((kept[:1], kept)))
        one = auto_correct(model, phi, lengths, wrong, replace(settings, iterations=1))
        sign = torch.sign(one.moved - (phi if settings.space == "phi" else one.before))
        expected = case.outputs[f"{v}.first_step_sign"]
        check_most(case, f"{v}.first_step_sign", sign if expected.dim() == 2 else layout.place(sign))
    case.assert_complete()


def test_linearized():
    case = goldens.load("goal_trajectory_linearized")
    model = model_of(case)
    for number, variant in enumerate(case.manifest["config"]["variants"]):
        v, label = f"v{number}", torch.tensor(variant["labels"])
        intentional = int((label == 0).sum())
        layout = model.layout([len(label)], [intentional])
        with torch.no_grad():
            h = model.contextualize(start_of(case, variant["phi_input"]), layout)
        case.check(f"{v}.h_before", h)
        case.check(f"{v}.h_linearized", linearized_as_released(h[0], intentional)[None])
        case.check(f"{v}.linearized_clips_paper_formula", linearized(layout.collect(h), intentional))
    case.assert_complete()


def test_a_batch_is_its_videos_one_by_one():
    torch.manual_seed(0)
    model = zoo.create("goal_trajectory_tiny").eval()
    lengths = [5, 3, 4, 6]
    phi, wrong = torch.randn(18, 64), torch.zeros(18, dtype=torch.bool)
    wrong[[3, 4, 5, 6, 7, 14, 17]] = True  # the second video fails from its first clip on, the third not at all
    settings = Settings(alpha=0.01, iterations=12)
    together = auto_correct(model, phi, lengths, wrong, settings)
    assert together.iterations[2] == 0
    assert together.done[2]
    assert torch.equal(together.moved[~wrong], phi[~wrong])
    for video, (one, mark) in enumerate(zip(phi.split(lengths), wrong.split(lengths), strict=True)):
        alone = auto_correct(model, one, [len(one)], mark, settings)
        part = together.moved.split(lengths)[video]
        assert ((part - alone.moved).abs() > 1e-5).float().mean() <= NEAR
        assert alone.iterations[0] == together.iterations[video]


def test_nothing_moves_further_than_epsilon():
    torch.manual_seed(0)
    model = zoo.create("goal_trajectory_tiny").eval()
    phi, wrong = torch.randn(6, 64), torch.tensor([0, 0, 0, 1, 1, 1]).bool()
    found = auto_correct(model, phi, [6], wrong, Settings(alpha=0.03, epsilon=0.05, iterations=9))
    assert (found.moved - phi).abs().max() <= 0.05 + 1e-6


def test_a_model_of_single_clips_is_corrected_without_coherence():
    torch.manual_seed(0)
    model = zoo.create("oops_cnn_tiny").eval()
    phi, wrong = torch.randn(5, 64), torch.tensor([0, 0, 1, 1, 1]).bool()
    with torch.no_grad():
        assert not (model.classify(phi)[wrong].argmax(-1) == 0).all()
    found = auto_correct(model, phi, [5], wrong, Settings(alpha=0.05, epsilon=5, iterations=200))
    assert found.done.all()
    assert (found.logits[wrong].argmax(-1) == 0).all()
    assert found.history[0].coherence.isnan().all()


def test_a_straight_line_goes_on_from_the_failure():
    h = torch.tensor([[0.0], [1.0], [3.0], [10.0], [10.0]])
    assert linearized(h, 2).flatten().tolist() == [0, 1, 3, 4.5, 6]
    assert torch.equal(linearized(h, 0), h)  # nothing went well, so there is nothing to continue
