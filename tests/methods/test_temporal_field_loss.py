import pytest
import torch
from torch.nn import functional as F

from tests.networks import brute_force
from tests.networks.test_temporal_field import SIGMA, released_field, released_potentials, tiny_field
from zoo.methods.temporal_field_loss import (
    Told,
    from_mail,
    labels_from_mail,
    log_likelihood,
    minus_gradients,
    surrogate,
)
from zoo.networks.message_server import MessageServer
from zoo.networks.temporal_field import Frames, Potentials, alternate, kernel, mean_field, towards_intent


def by_factor(flat: torch.Tensor, progresses: int) -> torch.Tensor:
    """``[T, P * O]`` as ``[T, O, P]``."""
    return flat.view(len(flat), progresses, -1).transpose(1, 2)


def test_gradients_at_the_mean_field():
    case, states, phi, times = tiny_field()
    belief = mean_field(phi, states, times, SIGMA, 40, in_turn=True)[-1]
    label, scene = torch.tensor(case.manifest["config"]["ground_truth"]).T
    near = kernel(times, SIGMA).fill_diagonal_(0)
    u, true = belief.u, F.one_hot(states.unit[label], 3).double()
    wish = (true[..., None] * phi.xi).sum((0, 1)).expand(3, -1)
    told = Told(near.triu() @ u, near.tril() @ u, near.triu() @ true, near.tril() @ true, wish)
    found = minus_gradients(belief, phi, states, label, scene, told)
    case.check("mf_grad.phi_op", -by_factor(found.op, 2))
    case.check("mf_grad.phi_ap", -by_factor(found.ap, 2))
    case.check("mf_grad.phi_os", -found.os)
    case.check("mf_grad.phi_coap", -found.coap)
    case.check("mf_grad.phi_xi", -found.xi)
    case.check("mf_grad.mu", -found.mu)


def test_training_as_released():
    """Six batches through the message server: what comes in, what is believed, what goes back."""
    case, states = released_field()
    about = case.manifest["config"]
    scale, video = about["videoSize"], torch.tensor([0, 1])
    widths = {"q": states.units, "H": 3, "label": 1, "label_intent": 3}
    server = MessageServer(
        widths, about["cache_size"], about["messageDecay"], "oldest", about["sigma"], dtype=torch.float64
    )
    for number, batch in enumerate(about["train"]):
        phi = released_potentials(case, states, f"train{number}")
        time = torch.tensor(batch["times"])
        label = torch.tensor([about["pairs"].index(target[:2]) for target in batch["target"]])

        def check(name: str, value: torch.Tensor, number: int = number) -> None:
            case.check(f"train{number}.{name}", value)

        mail = server.receive(video, time)
        later, earlier = from_mail(mail, scale, released=True)
        later_label, earlier_label = labels_from_mail(mail, states.units, scale)
        wish, label_wish = (scale * mail.gather(name, "all", fade=False) for name in ("H", "label_intent"))
        ahead, back = scale * mail.gather("q", "past") @ phi.mu, scale * mail.gather("q", "future") @ phi.mu.T
        incoming = {"P": ahead, "P2": back, "H": wish, "Hgt": label_wish, "logK": earlier.log(), "logK2": later.log()}
        for name, value in {**incoming, "Kgt": earlier_label, "Kgt2": later_label}.items():
            check(f"in.{name}", value)

        belief = alternate(Frames(phi, states), ahead + back, wish, about["local_passes"])
        q = belief.q.new_zeros(2, 9, 6)
        objects, verbs = torch.tensor(about["pairs"]).T
        q[:, objects, verbs] = belief.q[..., 0]
        check("Q", q)
        check("Qh", belief.intent)
        uniform_scene = torch.tensor(about["scenes"], dtype=torch.float64).log()
        check("loglik", log_likelihood(belief, label) - uniform_scene)

        own = phi.xi[torch.arange(2), states.unit[label]]
        H = towards_intent(belief.u, phi.xi)
        unit = states.unit[label][:, None].double()
        server.send(video, time, q=belief.u, H=H, label=unit, label_intent=own)
        mail = server.receive(video, time)
        label_wish = scale * mail.gather("label_intent", "all", fade=False) + own
        told = Told(*from_mail(mail, scale, released=True), *labels_from_mail(mail, states.units, scale), label_wish)
        found = minus_gradients(belief, phi, states, label, None, told)
        check("grad.o", found.op)
        check("grad.v", found.ap)
        check("grad.ov", found.coap)
        check("grad.og", (found.xi + about["intent_decay"] * phi.xi).flatten(1))
        check("grad.oo", found.mu.flatten(1))
    assert case.checked == {name for name in case.outputs if name.startswith("train")}


@pytest.mark.parametrize("prior", [0.0, 4e-4])
def test_the_surrogate_has_that_gradient(prior):
    case, states, phi, times = tiny_field()
    label, scene = torch.tensor(case.manifest["config"]["ground_truth"]).T
    belief = mean_field(phi, states, times, SIGMA)[-1]
    u = belief.u
    found = minus_gradients(belief, phi, states, label, scene, Told(u, 2 * u, 3 * u, 4 * u, u))
    leaves = phi.map(lambda value: value.clone().requires_grad_())
    surrogate(leaves, found, prior).backward()
    for name in ("op", "ap", "coap", "os"):
        torch.testing.assert_close(getattr(leaves, name).grad, getattr(found, name) / 3)
    torch.testing.assert_close(leaves.xi.grad, (found.xi + prior * phi.xi) / 3)
    torch.testing.assert_close(leaves.mu.grad, found.mu.mean(0))


def test_where_frames_are_alone_it_is_the_gradient_of_the_likelihood():
    """Without terms between frames mean field is exact, and so must be what is learnt (by enumeration and autograd)."""
    case, states, phi, times = tiny_field()
    truth = case.manifest["config"]["ground_truth"]
    label, scene = torch.tensor(truth).T
    alone = Potentials(phi.op, phi.ap, phi.coap, phi.os).map(lambda value: value.clone().requires_grad_())
    scores = brute_force.joint_scores(alone, states, times, SIGMA)
    exact = brute_force.log_likelihood(scores, tuple(row * states.scenes + s for row, s in truth))
    exact.backward()
    belief = mean_field(alone.map(torch.Tensor.detach), states, times, SIGMA, 1)[0]
    nothing = torch.zeros(3, 3, dtype=torch.float64)
    found = minus_gradients(belief, alone, states, label, scene, Told(nothing, nothing, nothing, nothing, None))
    for name, value in alone.tensors().items():
        torch.testing.assert_close(value.grad, -getattr(found, name))
    torch.testing.assert_close(log_likelihood(belief, label, scene).sum(), exact.detach())


def test_the_likelihood_by_finite_differences():
    """`log_likelihood` of a frame's own field is what `gradcheck` says it is, and Eq. 7 is its gradient."""
    _, states, phi, _ = tiny_field()
    label = torch.tensor([4, 0, 2])

    def likelihood(op: torch.Tensor, coap: torch.Tensor) -> torch.Tensor:
        alone = Potentials(op, phi.ap, coap)
        return log_likelihood(alternate(Frames(alone, states)), label)

    op, coap = (value.clone().requires_grad_() for value in (phi.op, phi.coap))
    assert torch.autograd.gradcheck(likelihood, (op, coap))
    likelihood(op, coap).sum().backward()
    nothing = torch.zeros(3, 3, dtype=torch.float64)
    alone = Potentials(phi.op, phi.ap, phi.coap)
    belief = alternate(Frames(alone, states))
    found = minus_gradients(
        belief,
        alone,
        states,
        label,
        None,
        Told(nothing, nothing, nothing, nothing, None),
    )
    torch.testing.assert_close(op.grad, -found.op)
    torch.testing.assert_close(coap.grad, -found.coap)


def test_a_scene_that_nobody_noted_is_latent():
    """The gradient is that of the likelihood with scenes summed out (by enumeration and autograd)."""
    _, states, phi, times = tiny_field()
    label, scene = torch.tensor([4, 0, 2]), torch.tensor([-1, -1, -1])
    alone = Potentials(phi.op, phi.ap, phi.coap, phi.os).map(lambda value: value.clone().requires_grad_())
    score = alone.frames(states)
    exact = score.logsumexp(2)[torch.arange(3), label] - score.flatten(1).logsumexp(1)
    exact.sum().backward()
    belief = mean_field(alone.map(torch.Tensor.detach), states, times, SIGMA, 1)[0]
    nothing = torch.zeros(3, 3, dtype=torch.float64)
    found = minus_gradients(belief, alone, states, label, scene, Told(nothing, nothing, nothing, nothing, None))
    for name, value in alone.tensors().items():
        torch.testing.assert_close(value.grad, -getattr(found, name))
    torch.testing.assert_close(log_likelihood(belief, label, scene), exact.detach())
