"""S3D and its text tower against the released PyTorch module, and the variant of the public training code."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from tests.goldens import Case, load
from zoo.errors import ZooError
from zoo.networks.s3d import S3D, space_to_depth
from zoo.networks.sentences import SentenceEncoder, tokenize


def build(case: Case) -> tuple[S3D, SentenceEncoder]:
    """The towers of a case in evaluation mode, with its weights."""
    scale = 1.65 if "weight_transform" in case.manifest else 1.0
    state = {key: value * scale if value.ndim == 5 else value for key, value in case.state().items()}
    text = {key.removeprefix("text_module."): state.pop(key) for key in list(state) if key.startswith("text_module.")}
    video, sentences = S3D(space_to_depth=case.manifest["config"]["space_to_depth"]), SentenceEncoder()
    video.load_state_dict(state)
    sentences.load_state_dict(text)
    return video.eval(), sentences.eval()


def watch(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Outputs of modules, by name, of the next forward pass."""
    seen: dict[str, Tensor] = {}
    for name, module in modules.items():
        module.register_forward_hook(lambda _, __, output, name=name: seen.update({name: output.detach().clone()}))
    return seen


def check(case: Case, name: str, value: Tensor) -> None:
    """What a case stores of a big activation: its mean and deviation, and 64 of its numbers."""
    case.check(f"{name}.stats", torch.stack([value.mean(), value.std(correction=0)]))
    case.check(f"{name}.sample", value.flatten()[:: max(1, value.numel() // 64)][:64])


def activations(case: Case, prefix: str) -> list[str]:
    """Modules whose outputs a case stores."""
    names = (name.removeprefix(prefix).removesuffix(".stats") for name in case.outputs if name.endswith(".stats"))
    return [name for name in names if name not in ("space_to_depth", "input_grad") and "." not in name]


@pytest.mark.slow
def test_the_released_towers():
    case = load("actionness_s3d")
    video, text = build(case)
    embeddings = {}
    for name in ("video", "video_odd"):
        clips, seen = case.input(name), watch({n: getattr(video, n) for n in activations(case, f"{name}.")})
        with torch.no_grad():
            pooled = video.mixed_5c_pooled(clips)
            embeddings[name] = video.fc(pooled)
        check(case, f"{name}.space_to_depth", space_to_depth(clips))
        case.check(f"{name}.mixed_5c_pooled", pooled)
        case.check(f"{name}.video_embedding", embeddings[name])
        for activation, value in seen.items():
            check(case, f"{name}.{activation}", value)
    config = case.manifest["config"]
    numbers = tokenize(config["sentences"], {word: n for n, word in enumerate(config["dictionary"], 1)})
    torch.testing.assert_close(numbers, case.stored["token_ids"])
    with torch.no_grad():
        sentences = text(numbers)
    case.check("text_embedding", sentences)
    case.check("similarity", sentences @ embeddings["video"].T)
    case.assert_complete()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Please use the new API settings to control TF32")
def test_a_training_pass():
    case = load("actionness_s3d_train")
    video, _ = build(case)
    video.train()
    clips = case.input("video").requires_grad_()
    seen = watch({n: getattr(video, n) for n in activations(case, "")})
    # The gradient at the input depends on the order of summation, by up to 0.03 of 0.74 between one thread and two, or
    # between single and double precision. The reference's order is nearest to that of PyTorch's own convolutions.
    with torch.backends.mkldnn.flags(enabled=False):
        pooled = video.mixed_5c_pooled(clips)
        embedding = video.fc(pooled)
        loss = (embedding * case.input("probe")).sum()
        loss.backward()
    case.check("mixed_5c_pooled", pooled)
    case.check("video_embedding", embedding)
    case.check("loss", loss.detach()[None])
    for name, value in seen.items():
        check(case, name, value)
    check(case, "input_grad", clips.grad)
    gradients = dict(video.named_parameters())
    case.check("grad_norms", torch.stack([gradients[name].grad.norm() for name in case.manifest["grad_keys"]]))
    for name, value in video.state_dict().items():
        if f"after.{name}" in case.outputs:
            case.check(f"after.{name}", value)
    case.assert_complete()


@pytest.mark.slow
def test_the_network_of_the_training_code():
    case = load("actionness_s3d_gpu_variant")
    video, text = build(case)
    seen = watch({n: getattr(video, n) for n in activations(case, "")})
    with torch.no_grad():
        pooled = video.mixed_5c_pooled(case.input("video"))
        case.check("mixed_5c_pooled", pooled)
        case.check("video_embedding", video.fc(pooled))
        case.check("text_embedding", text(case.stored["token_ids"]))
    for name, value in seen.items():
        check(case, name, value)
    case.assert_complete()


def test_odd_sides_are_refused_by_name():
    with pytest.raises(ZooError, match="4 x 6 x 7"):
        space_to_depth(torch.zeros(1, 3, 4, 6, 7))


def test_the_colour_is_the_fastest_channel():
    clip = torch.zeros(1, 3, 2, 2, 2)
    clip[0, 2, 1, 0, 1] = 1  # blue, second frame, first row, second column
    assert space_to_depth(clip).flatten().nonzero().item() == ((1 * 2 + 0) * 2 + 1) * 3 + 2


def test_a_sentence_is_cut_and_filled_up():
    numbers = {"cut": 1, "don't": 2}
    assert tokenize(["Don't CUT it!", "", "cut " * 5], numbers, 3).tolist() == [[2, 1, 0], [0, 0, 0], [1, 1, 1]]
