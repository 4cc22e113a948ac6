"""Published weights of correspondence, written as their authors wrote them: fetched, checked, converted, equal."""

from __future__ import annotations

import argparse
import io

import pytest
import torch
from torch import Tensor

import zoo
from tests.goldens import Case, load
from tests.hub.conftest import hub, online  # noqa: F401 (fixtures)
from tests.hub_server import HubServer, Plain
from zoo.hub.manifest import manifest


def publish(server: HubServer, checkpoint: str, content: dict) -> None:
    """Put a file on the server at the checkpoint's address, written as torch wrote files in its authors' days."""
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=False)
    path = "/" + manifest().get(checkpoint).source.url.split("/", 3)[3]
    server.plain[path.partition("?")[0]] = Plain(file.getvalue())


def sampled(case: Case, name: str, actual: Tensor) -> None:
    case.check(f"{name}.sample", actual.flatten()[:: case.manifest["sample_stride"][name]], atol=1e-3)


@pytest.mark.slow
def test_the_released_time_cycle_gives_the_reference_features(online):  # noqa: F811
    case = load("time_cycle_encoder")
    publish(online, "time_cycle_r50.vlog", {"epoch": 14, "state_dict": case.state()})
    model = zoo.load("time_cycle")
    assert not model.training
    assert model.checkpoint.license == "NOASSERTION"
    with torch.no_grad():
        sampled(case, "feat", model(case.input("clip").transpose(1, 2))[0])
    assert zoo.verify("time_cycle_r50.vlog").ok


@pytest.mark.slow
def test_the_released_random_walk_is_read_beside_its_options_and_its_optimizer(online):  # noqa: F811
    case = load("contrastive_random_walk_loss")
    state = case.state()
    walker = torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))])
    content = {"model": state, "optimizer": walker.state_dict(), "epoch": 1, "args": argparse.Namespace(lr=1e-4)}
    publish(online, "contrastive_random_walk_r18.kinetics400", content)
    model = zoo.load("contrastive_random_walk")
    ours = model.state_dict()
    assert any(torch.equal(value, state["encoder.model.layer3.1.conv2.weight"]) for value in ours.values())


def test_a_page_in_place_of_the_file_is_not_kept(online):  # noqa: F811
    """The address of a shared drive answers with a page where it wants to be asked twice."""
    path = "/" + manifest().get("time_cycle_r50.vlog").source.url.split("/", 3)[3]
    online.plain[path.partition("?")[0]] = Plain(b"<!DOCTYPE html><title>Virus scan warning</title>")
    for _ in range(2):
        with pytest.raises(zoo.WeightsError, match="web page"):
            zoo.load("time_cycle_r50")
