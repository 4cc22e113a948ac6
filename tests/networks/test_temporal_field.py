import pytest
import torch
from torch.nn import functional as F

from tests import goldens
from tests.networks import brute_force
from zoo.errors import ZooError
from zoo.networks.temporal_field import (
    Frames,
    Potentials,
    States,
    alternate,
    bound,
    kernel,
    mean_field,
    message_passing,
    towards_intent,
)

SIGMA = 150.0


def tiny_field() -> tuple[goldens.Case, States, Potentials, torch.Tensor]:
    case = goldens.load("temporal_fields_crf_meanfield")
    about = case.manifest["config"]
    states = States(about["valid"], (4, about["objects"], about["actions"], about["progress"]), about["scenes"])
    given = {name: case.input(name).double() * about["input_scale"] for name in case.manifest["inputs"]}
    factors = (given[name].transpose(1, 2).flatten(1) for name in ("phi_op", "phi_ap"))
    phi = Potentials(*factors, given["phi_coap"], given["phi_os"], given["phi_xi"], given["mu"])
    return case, states, phi, torch.tensor(about["times"])


def released_field() -> tuple[goldens.Case, States]:
    case = goldens.load("temporal_fields_crf_released")
    about = case.manifest["config"]
    objects, verbs = about["objects"], about["verbs"]
    number = {tuple(pair): n for n, pair in enumerate(about["category_object_verb"])}
    rows = [(number[o % objects, v % verbs], o % objects, v % verbs, o // objects) for o, v in about["pairs"]]
    return case, States(rows, (len(number), objects, verbs, about["progress"]), joint=True)


def released_potentials(case: goldens.Case, states: States, name: str) -> Potentials:
    o, v, ov, og = (case.input(f"{part}_{name}").double() for part in ("o", "v", "ov", "og"))
    mu = case.input("oo").double().view(states.units, states.units)
    return Potentials(o, v, ov, None, 0.5 * og.view(len(o), states.units, -1), mu)


class TestTheEquations:
    def test_passes_over_all_frames_at_once(self):
        case, states, phi, times = tiny_field()
        beliefs = mean_field(phi, states, times, SIGMA)
        case.check("kernel", kernel(times, SIGMA).fill_diagonal_(0))  # no frame hears itself
        case.check("sync.Q", torch.stack([b.q for b in beliefs]))
        case.check("sync.QI", torch.stack([b.intent[0] for b in beliefs]))
        case.check("sync.category", torch.stack([states.categories_of(b.q) for b in beliefs]))
        case.check("sync.elbo", torch.stack([bound(b, phi, times, SIGMA) for b in beliefs]))

    def test_frame_after_frame(self):
        case, states, phi, times = tiny_field()
        beliefs = mean_field(phi, states, times, SIGMA, case.manifest["sweeps_to_converge"], in_turn=True)
        bounds = torch.stack([bound(b, phi, times, SIGMA) for b in beliefs])
        case.check("seq.Q", beliefs[-1].q)
        case.check("seq.QI", beliefs[-1].intent[0])
        case.check("seq.elbo", bounds)
        case.check("seq.elbo_final", bounds[-1:])
        assert (bounds.diff() > -1e-9).all()

    def test_enumeration(self):
        case, states, phi, times = tiny_field()
        phi = phi.map(lambda value: value.requires_grad_())
        scores = brute_force.joint_scores(phi, states, times, SIGMA)
        truth = case.manifest["config"]["ground_truth"]
        likelihood = brute_force.log_likelihood(scores, tuple(row * states.scenes + scene for row, scene in truth))
        frames, intent = brute_force.marginals(scores)
        q = torch.stack(frames).view(len(times), len(states), states.scenes)
        case.check("exact.logZ", scores.flatten().logsumexp(0)[None])
        case.check("exact.loglik", likelihood[None])
        case.check("exact.marginals", q)
        case.check("exact.category", states.categories_of(q))
        case.check("exact.intent", intent)
        likelihood.backward()
        for name, grad in (("op", phi.op.grad), ("ap", phi.ap.grad)):
            case.check(f"exact_grad.phi_{name}", grad.view(len(times), states.progresses, -1).transpose(1, 2))
        for name, value in (("phi_os", phi.os), ("phi_coap", phi.coap), ("phi_xi", phi.xi), ("mu", phi.mu)):
            case.check(f"exact_grad.{name}", value.grad)

    def test_the_bound_is_below_the_partition_function(self):
        _, states, phi, times = tiny_field()
        exact = brute_force.joint_scores(phi, states, times, SIGMA).flatten().logsumexp(0)
        last = mean_field(phi, states, times, SIGMA, 30, in_turn=True)[-1]
        assert exact - 0.5 < bound(last, phi, times, SIGMA) <= exact

    def test_without_time_mean_field_is_exact(self):
        _, states, phi, times = tiny_field()
        alone = Potentials(phi.op, phi.ap, phi.coap, phi.os)
        frames, _ = brute_force.marginals(brute_force.joint_scores(alone, states, times, SIGMA))
        belief = mean_field(alone, states, times, SIGMA, 1)[0]
        torch.testing.assert_close(belief.q.flatten(1), torch.stack(frames))
        assert belief.intent is None

    def test_mu_tells_earlier_from_later(self):
        _, states, phi, times = tiny_field()
        turned = Potentials(phi.op, phi.ap, phi.coap, phi.os, phi.xi, phi.mu.T)
        ahead, back = (mean_field(p, states, times, SIGMA)[-1].q for p in (phi, turned))
        assert not torch.allclose(ahead, back, atol=1e-3)


class TestTheRelease:
    @pytest.mark.parametrize("way", ["clean", "compounding"])
    def test_passes_over_a_video(self, way):
        case, states = released_field()
        about = case.manifest["config"]
        beliefs = message_passing(
            released_potentials(case, states, "test"),
            states,
            torch.tensor(about["test_times"]),
            about["sigma"],
            about["videoSize"],
            about["message_passes"],
            about["local_passes"],
            compounding=way == "compounding",
        )
        actions = [states.categories_of(belief.q) for belief in beliefs]
        for number, scores in enumerate(actions):
            case.check(f"test.{way}.pass{number}.actions", scores)
        case.check(f"test.{way}.video_max", actions[-1].amax(0))
        case.check(f"test.{way}.Qh", beliefs[-1].intent)
        case.check(f"test.{way}.objects", beliefs[-1].u)
        torch.testing.assert_close(states.units_of(beliefs[-1].q), beliefs[-1].u)


class TestAlternating:
    def test_it_comes_to_rest_at_eq_27_and_29(self):
        _, states, phi, _ = tiny_field()
        heard, wish = (
            torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(n)) for n in (0, 1)
        )
        belief = alternate(Frames(phi, states), heard, wish, rounds=200)
        leaning = torch.einsum("bug,bg->bu", phi.xi, belief.intent)
        score = phi.frames(states) + (heard + leaning)[:, states.unit, None]
        torch.testing.assert_close(belief.q, score.flatten(1).softmax(1).view_as(score))
        torch.testing.assert_close(belief.intent, (wish + towards_intent(belief.u, phi.xi)).softmax(-1))

    def test_huge_potentials_stay_numbers(self):
        _, states, phi, times = tiny_field()
        huge = phi.map(lambda value: 1e4 * value.float())
        for belief in (
            mean_field(huge, states, times, SIGMA)[-1],
            message_passing(huge, states, times, SIGMA, 1.0)[-1],
        ):
            assert belief.q.isfinite().all()
            torch.testing.assert_close(belief.q.sum((1, 2)), torch.ones(3))


class TestStates:
    def test_marginals_add_up(self):
        _, states, phi, times = tiny_field()
        q = mean_field(phi, states, times, SIGMA)[-1].q
        for name, marginal in states.every(q).items():
            torch.testing.assert_close(marginal.sum(1), torch.ones(3, dtype=q.dtype), msg=name)

    def test_the_number_of_a_label(self):
        _, states, _, _ = tiny_field()
        assert states.number(torch.tensor([3, 0]), torch.tensor([1, 1])).tolist() == [5, 1]
        with pytest.raises(ZooError, match="does not admit"):
            states.number(torch.tensor([3]), torch.tensor([0]))

    def test_what_cannot_be_a_field(self):
        with pytest.raises(ZooError, match="beyond their numbers"):
            States([(0, 3, 0, 0)], (1, 3, 1, 1))
        with pytest.raises(ZooError, match="rows of"):
            States([(0, 0, 0)], (1, 1, 1))

    def test_nothing_of_it_is_a_weight(self):
        _, states, _, _ = tiny_field()
        assert not states.state_dict()
        assert F.one_hot(states.unit, states.units).shape == (len(states), 3)
