"""Intuitive physics as a user trains it: in stages, resumed, by command, and what is learned of a finished vector."""

from __future__ import annotations

import functools
import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import yaml
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

import zoo
from tests.data.collision_tree import write_collisions
from tests.small_physics import SIDE, SMALL
from zoo import models
from zoo.data.physics_collisions import PhysicsCollisions
from zoo.hub.weights import save_weights
from zoo.methods import physics_vector
from zoo.methods.base import Recipe
from zoo.methods.collisions import PROPERTIES
from zoo.methods.intuitive_physics import RATIOS, IntuitivePhysics
from zoo.methods.physics_vector import columns_of_variance, finish, teach
from zoo.methods.staggered import StaggeredTraining
from zoo.networks.physics import RatioNetwork
from zoo.training import train

STAGES = (2, 3, 2)  # epochs
GROUPS, BATCHES = 6, 3  # mini-batches of a property in a batch, and batches of an epoch, for there are 24
KILLED = 8  # steps: in the second stage's first epoch, a batch before its end
EPOCH_END = 15  # steps: the second stage's last, before Lightning calls it an epoch
# What the loss is multiplied by in some epochs' batches, so that the best one of each stage is not its last. The epoch
# in which the run is killed would be the best by its last batch alone.
WEIGHED = {0: (0.5, 0.5, 0.5), 2: (2.0, 2.0, 0.1), 3: (0.5, 0.5, 0.5), 5: (0.5, 0.5, 0.5)}
BEST, FIRST, LAST = (0, 3, 5), (0, 2, 5), (1, 4, 6)
QUIET = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
QUIET |= {"accelerator": "cpu"}
COMMAND = [
    *("--data", "physics_collisions", "--data.num_workers=0", "--trainer.accelerator=cpu"),
    *("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.log_every_n_steps=1"),
]
SHORT = ["--trainer.limit_train_batches=1", "--trainer.limit_val_batches=1", "--data.batch_size=2"]
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_collisions(tmp_path_factory.mktemp("collisions") / "set", SIDE)


@pytest.fixture(scope="module", autouse=True)
def hasty():
    """Networks of ratios that hardly learn; what they can learn is tried on its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(physics_vector, "teach", functools.partial(teach, steps=3))
        yield


def small(**options: Any) -> IntuitivePhysics:
    torch.manual_seed(0)
    recipe = Recipe(rate=0.01, schedule="constant", weight_decay=0.0)
    return IntuitivePhysics(SMALL, **{"recipe": recipe, "groups": GROUPS, "stages": STAGES, **options})


def weighed(model: IntuitivePhysics, factors: dict[int, tuple[float, ...]]) -> IntuitivePhysics:
    """With a loss that is multiplied by so much in an epoch's batches."""
    plain = model.loss

    def loss(*given: Any) -> Tensor:
        epoch, batch = divmod(model.global_step, BATCHES)
        return plain(*given) * factors.get(epoch, (1.0,) * BATCHES)[batch]

    model.loss = loss
    return model


def collisions(root: Path, model: pl.LightningModule, **options: Any) -> PhysicsCollisions:
    return PhysicsCollisions(root, model.spec, num_workers=0, **options)


def copied(model: pl.LightningModule) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def network(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """What is trained in stages: all but the networks of ratios."""
    return {name: value for name, value in state.items() if not name.startswith("ratios.")}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


class Witness(pl.Callback):
    """Notes what a run does, before the staggered training's own hooks (they come after those of the user)."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, tuple[int, ...]]] = []  # epoch and properties of each batch
        self.losses: dict[int, list[float]] = {}
        self.begun: dict[int, dict[str, Tensor]] = {}
        self.ended: dict[int, dict[str, Tensor]] = {}
        self.steps: dict[int, list[int]] = {}  # that the optimiser remembers, when an epoch begins and when it ends

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        self.seen.append((trainer.current_epoch, tuple(sorted(set(batch["property"].tolist())))))
        assert len(batch["property"]) == GROUPS * len(self.seen[-1][1])

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.losses.setdefault(trainer.current_epoch, []).append(float(outputs["loss"]))

    def on_train_epoch_start(self, trainer, module) -> None:
        self.begun[trainer.current_epoch] = network(copied(module))
        self.steps[trainer.current_epoch] = [self.remembered(trainer)]

    def on_train_epoch_end(self, trainer, module) -> None:
        self.ended[trainer.current_epoch] = network(copied(module))
        self.steps.setdefault(trainer.current_epoch, [-1]).append(self.remembered(trainer))

    @staticmethod
    def remembered(trainer) -> int:
        return max((int(state["step"]) for state in trainer.optimizers[0].state.values()), default=0)


def learn(root: Path, folder: Path, ckpt: Path | None = None) -> tuple[IntuitivePhysics, Witness]:
    """A whole run, or what follows on a checkpoint; one is kept of every epoch, and one in the middle of one."""
    pl.seed_everything(0, verbose=False)
    model, witness = weighed(small(), WEIGHED), Witness()
    kept = [
        ModelCheckpoint(folder, "{epoch}", save_top_k=-1),
        *(ModelCheckpoint(folder, "{step}", every_n_train_steps=n, save_top_k=-1) for n in (KILLED, EPOCH_END)),
    ]
    options = {**QUIET, "enable_checkpointing": True, "limit_val_batches": 0, "callbacks": [witness, *kept]}
    trainer = pl.Trainer(max_epochs=sum(STAGES), **options)
    trainer.fit(model, collisions(root, model), ckpt_path=ckpt)
    return model, witness


@pytest.fixture(scope="module")
def whole(root, tmp_path_factory) -> tuple[IntuitivePhysics, Witness, Path]:
    """A run that nothing interrupts, and the folder of its checkpoints."""
    folder = tmp_path_factory.mktemp("whole")
    return *learn(root, folder), folder


def staggered(folder: Path, name: str) -> dict[str, Any]:
    """What a checkpoint remembers of the stages."""
    return torch.load(folder / f"{name}.ckpt", weights_only=True)["callbacks"]["StaggeredTraining"]


# Stages


def test_properties_are_added_one_by_one(whole):
    _, witness, _ = whole
    assert witness.seen == [
        (epoch, tuple(range(1 + (epoch >= 2) + (epoch >= 5)))) for epoch in range(sum(STAGES)) for _ in range(BATCHES)
    ]


def test_the_order_is_that_of_the_spec_and_a_single_stage_has_all():
    callback = StaggeredTraining(("friction", "mass", "speed"), (1, 2, 1))
    assert [callback.active(epoch) for epoch in (0, 1, 3)] == [
        ("friction",),
        ("friction", "mass"),
        ("friction", "mass", "speed"),
    ]
    assert callback.active(99) == callback.active(3)
    assert StaggeredTraining(PROPERTIES, (5,)).active(0) == PROPERTIES


def test_each_stage_starts_from_the_best_epoch_of_the_one_before_and_forgets_its_steps(whole):
    model, witness, _ = whole
    mean = {epoch: sum(losses) / len(losses) for epoch, losses in witness.losses.items()}
    for first, last, best in zip(FIRST, LAST, BEST, strict=True):
        assert best == min(range(first, last + 1), key=mean.get) < last
        following = witness.begun[last + 1] if last + 1 in witness.begun else network(model.state_dict())
        assert same(following, witness.ended[best])
    for epoch, steps in witness.steps.items():
        since = epoch - max(first for first in FIRST if first <= epoch)
        assert steps == [BATCHES * since, BATCHES * (since + 1)]


def test_checkpoints_remember_the_best_epoch_of_the_stage(whole):
    _, witness, folder = whole
    about = staggered(folder, "epoch=3")
    assert about["best_epoch"] == 3
    assert about["best_loss"] == pytest.approx(sum(witness.losses[3]) / BATCHES, rel=1e-5)
    assert same(network(about["best"]), witness.ended[3])
    over = staggered(folder, "epoch=4")
    assert (over["best_epoch"], over["best"]) == (-1, {})


def test_the_last_checkpoint_is_of_the_finished_model(whole):
    model, _, folder = whole
    fresh = small().state_dict()
    state = torch.load(folder / f"epoch={LAST[-1]}.ckpt", weights_only=True)["state_dict"]
    assert same(state, model.state_dict())
    learned = [name for name in state if name.startswith("ratios.") and not torch.equal(state[name], fresh[name])]
    assert len(learned) == len(PROPERTIES) * len(RATIOS) * 6  # weights and biases of three layers
    assert model.training


@pytest.mark.parametrize("ended", [{"max_epochs": 2}, {"max_steps": 2 * BATCHES - 1}])
def test_a_run_that_ends_within_a_stage_ends_with_its_best_epoch(root, ended):
    model, witness = weighed(small(ratios=False), {0: (0.5, 0.5, 0.5)}), Witness()
    pl.Trainer(**QUIET, **ended, limit_val_batches=0, callbacks=[witness]).fit(model, collisions(root, model))
    assert list(witness.ended) == [0, 1]
    assert same(network(model.state_dict()), witness.ended[0])
    assert not same(witness.ended[1], witness.ended[0])


@pytest.mark.parametrize("step", [KILLED, EPOCH_END])
def test_a_run_that_was_killed_ends_the_same(root, whole, tmp_path, step):
    """In the middle of a stage and of an epoch, or after a stage's last batch, before Lightning ends the epoch."""
    model, witness, folder = whole
    again, later = learn(root, tmp_path, folder / f"step={step}.ckpt")
    assert later.seen == witness.seen[step:]
    rest = {epoch: losses for epoch, losses in witness.losses.items() if (epoch + 1) * BATCHES > step}
    rest[step // BATCHES] = rest[step // BATCHES][step % BATCHES :]
    assert later.losses == rest
    for epoch in range(step // BATCHES, sum(STAGES)):
        mine, other = (staggered(place, f"epoch={epoch}") for place in (tmp_path, folder))
        assert (mine["best_epoch"], mine["best_loss"]) == (other["best_epoch"], other["best_loss"])
    assert same(again.state_dict(), model.state_dict())
    assert len(again.ratios) == len(PROPERTIES) * len(RATIOS)


# What is learned of a finished vector


def test_columns_are_found_by_how_much_they_vary_within_mini_batches():
    """Not by how much mini-batches differ from each other, and of both properties where both are among the best."""
    generator = torch.Generator().manual_seed(0)
    scale = torch.linspace(-1, 1, 5)[None, :, None]
    vectors = []
    for steps in ({2: 3.0, 7: -2.0, 4: 0.5}, {7: 1.0, 0: -4.0}):
        z = 100 * torch.randn(6, 1, 9, generator=generator).expand(6, 5, 9).clone()  # which no property changes
        for column, step in steps.items():
            z[..., column] += step * scale[..., 0]
        vectors.append(z)
    assert columns_of_variance(vectors, 2).tolist() == [[2, 7], [0, 7]]


def test_the_columns_of_the_baseline_are_found_after_training(root):
    model = small(constraint="none", stages=(1,))
    data = collisions(root, model)
    pl.Trainer(**QUIET, max_epochs=1, limit_train_batches=1, limit_val_batches=0).fit(model, data)
    model.eval()
    for number, property in enumerate(PROPERTIES):
        rows = data.index.mini_batches[property]["train"]
        clips = data.store.take(rows.flatten())["clips"]
        with torch.no_grad():
            z = model.encode(model.normalize(clips)).view(len(rows), 5, -1).double()
        spread = z.var(dim=1).mean(dim=0)
        found, others = model.dims[number], set(range(SMALL.vector)) - set(model.dims[number].tolist())
        assert len(set(found.tolist())) == 25
        assert spread[found].min() >= spread[sorted(others)].max() * (1 - 1e-4)
    assert not torch.equal(model.dims, small().dims)
    assert torch.equal(model.block("speed"), model.dims[1])


def test_networks_are_taught_from_a_scale_to_its_multiple(root, monkeypatch):
    """With vectors whose own numbers are ten times the property's number and the scale."""
    model, given = small(), {}
    scales = torch.arange(1.0, 6)[None, :, None]
    vectors = {name: torch.full((4, 5, SMALL.vector), 99.0) for name in PROPERTIES}
    for k, name in enumerate(PROPERTIES):
        vectors[name][..., model.block(name)] = 10 * k + scales
    monkeypatch.setattr(physics_vector, "grouped_vectors", lambda *_: vectors)
    names = {id(network): name for name, network in model.ratios.items()}

    def noted(network, before, after):
        assert before.shape[1] == after.shape[1] == 25
        given[names[id(network)]] = {tuple(pair) for pair in torch.stack([before, after], -1).flatten(0, 1).tolist()}
        return 0.0

    monkeypatch.setattr(physics_vector, "teach", noted)
    finish(model, collisions(root, model))
    pairs = {"third": {(3, 1)}, "half": {(2, 1), (4, 2)}, "double": {(1, 2), (2, 4)}, "triple": {(1, 3)}}
    assert given == {
        f"{name}_{ratio}": {(10 * k + a, 10 * k + b) for a, b in pairs[ratio]}
        for k, name in enumerate(PROPERTIES)
        for ratio in RATIOS
    }


def test_a_linear_map_is_learned():
    torch.manual_seed(0)
    before, turn = torch.randn(300, 6), torch.linalg.qr(torch.randn(6, 6))[0]
    after = before @ turn
    network, state = RatioNetwork(6), torch.get_rng_state()
    left = teach(network, before[:250], after[:250], steps=120)
    assert torch.equal(torch.get_rng_state(), state)
    rest = [(network(before[rows]) - after[rows]).square().mean() for rows in (slice(250), slice(250, None))]
    assert left == pytest.approx(float(rest[0] / after[:250].var(dim=0).mean()), rel=0.02)
    assert left < 0.02  # of the variance
    assert rest[1] < 0.05
    assert not any(p.requires_grad for p in network.parameters())


def test_it_is_learned_from_a_seed_of_its_own():
    before = torch.randn(30, 6)
    one, other = RatioNetwork(6, 16), RatioNetwork(6, 16)
    left = []
    for seed, network in enumerate((one, other)):
        torch.manual_seed(seed)
        left.append(teach(network, before, 2 * before, steps=5))
    assert left[0] == left[1]
    assert same(one.state_dict(), other.state_dict())


def test_batches_that_no_datamodule_serves_leave_the_networks_untaught(root):
    """Said in a warning: a run is not lost for it."""
    model = small(stages=(1,))
    fresh = copied(model)
    loader = collisions(root, model).train_dataloader()
    with pytest.warns(UserWarning, match="networks of ratios stay as they were"):
        pl.Trainer(**QUIET, max_epochs=1, limit_train_batches=1, limit_val_batches=0).fit(model, loader)
    trained = model.state_dict()
    assert not same(network(trained), network(fresh))
    assert all(torch.equal(trained[name], value) for name, value in fresh.items() if name.startswith("ratios."))


# By command


def fit(out: Path, *words: str) -> Any:
    return train(["fit", *words, f"--trainer.default_root_dir={out}"])


@pytest.mark.slow
def test_training_by_command_and_from_the_configuration_of_its_recipe(root, tmp_path):
    """Both as they are documented, but for the number of batches."""
    run = fit(tmp_path / "a", "--model", "intuitive_physics_tiny", *COMMAND, f"--data.root={root}", *SHORT)
    assert (run.trainer.current_epoch, run.trainer.global_step) == (3, 3)  # as long as its stages
    assert run.model.spec.crop == run.datamodule.spec.crop == 64
    metrics = run.trainer.callback_metrics
    assert metrics["stage"] == 3
    assert metrics["val_videos"] == 2
    assert {"train_loss_epoch", "feature_loss", "change_friction", "val_pixel_error", "val_shape_5"} <= {*metrics}
    loaded = zoo.load(str(next((tmp_path / "a").rglob("last.ckpt"))))
    assert not loaded.training
    assert (loaded.name, loaded.arguments["stages"]) == ("intuitive_physics_tiny", (1, 1, 1))
    assert same(loaded.state_dict(), run.model.state_dict())
    recipe = Path(__file__).parents[1] / "benchmarks" / "intuitive_physics_tiny.yaml"
    again = fit(tmp_path / "b", "--config", str(recipe), "--data.root", str(root), *COMMAND[2:], SHORT[0])
    assert (again.trainer.current_epoch, again.trainer.num_val_batches) == (3, [])
    assert same(again.model.state_dict(), run.model.state_dict())


@pytest.mark.parametrize("name", ["intuitive_physics", "intuitive_physics_tiny"])
def test_configurations_name_what_there_is(name):
    """The large one wants hours and AlexNet's weights."""
    said = yaml.safe_load((Path(__file__).parents[1] / "benchmarks" / f"{name}.yaml").read_text())
    assert said["model"]["class_path"] == f"zoo.models.{name}"
    known = inspect.signature(getattr(models, name)).parameters
    assert set(said["model"].get("init_args", {})) <= set(known)
    assert set(said["data"]["init_args"]) <= set(inspect.signature(PhysicsCollisions).parameters)
    stages = said["model"].get("init_args", {}).get("stages", known["stages"].default)
    assert said["trainer"]["max_epochs"] == sum(stages)


# Tests


def score(model: pl.LightningModule, data: PhysicsCollisions, **options: Any) -> dict[str, float]:
    (found,) = pl.Trainer(**{**QUIET, **options}).test(model, data, verbose=False)
    return found


def expected(model: IntuitivePhysics, data: PhysicsCollisions) -> dict[str, float]:
    """The same by the words of sections 9.4.1 and 9.4.2, a mini-batch's row after the other."""
    found: dict[str, list[Tensor]] = {}
    rows = 0
    for k, name in enumerate(PROPERTIES):
        dims = model.dims[k]
        for split, kind in (("shape_test", "shape"), ("parameter_test", "parameter")):
            numbers = data.index.mini_batches[name][split]
            rows += len(numbers)
            clips = model.normalize(data.store.take(numbers.flatten())["clips"])
            z = model.encode(clips).view(len(numbers), 5, -1)
            before, truth = (clips[:, :, t].unflatten(0, (len(numbers), 5)) for t in (3, 4))

            def error(z: Tensor, place: int, before: Tensor = before, truth: Tensor = truth) -> Tensor:
                difference = model.decode(z, before[:, place])[0].double() - truth[:, place].double()
                return (difference * 255).square().mean(dim=(1, 2, 3))

            def changed(values: Tensor, z: Tensor = z, dims: Tensor = dims) -> Tensor:
                copy = z[:, 0].clone()
                copy[:, dims] = values
                return copy

            if name == "mass":
                places = range(5) if kind == "shape" else (2,)
                which = "pixel_error" if kind == "shape" else "parameter_error"
                found[which] = [error(z[:, place], place) for place in places]
            first, last = z[:, 0, dims], z[:, 4, dims]
            for place in range(1, 5) if kind == "shape" else (2,):
                mixed = first + (last - first) * place / 4
                found.setdefault(f"{kind}_{place + 1}", []).append(error(changed(mixed), place))
            for ratio, place in (("double", 1), ("triple", 2)) if kind == "shape" else (("triple", 2),):
                multiplied = model.ratios[f"{name}_{ratio}"](first)
                found.setdefault(f"{kind}_ratio_{place + 1}", []).append(error(changed(multiplied), place))
    return {name: float(torch.cat(errors).mean()) for name, errors in found.items()} | {"videos": rows}


def test_scores_are_those_of_the_thesis(whole, root):
    model = whole[0]
    data = collisions(root, model)
    data.store.load(range(len(data.index)))
    with torch.no_grad():
        wanted = expected(model.eval(), data)
    assert len(wanted) == 11
    assert score(model, data) == pytest.approx(wanted, rel=1e-4)
    model.train()


def test_a_fresh_datamodule_can_be_tested(root):
    model = small(ratios=False)
    assert score(model, collisions(root, model), limit_test_batches=1)["videos"] == 8


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_broken_sequence_costs_a_test_its_mini_batches(root, tmp_path, batch_size):
    shutil.copytree(root, tmp_path / "set", copy_function=os.link)
    model = small(ratios=False)
    data = collisions(tmp_path / "set", model, batch_size=batch_size)
    broken = data.index.folders[data.records("val")[0].sequences[0]] / "00.png"
    begun = broken.read_bytes()[:-40]
    broken.unlink()  # it is a link
    broken.write_bytes(begun)
    data.store.load(range(len(data.index)))
    found = score(model, data)
    lost = [k for k, record in enumerate(data.records("val")) if broken.parent.name in record.folders]
    assert list(data.unreadable) == lost
    assert found["videos"] == len(data.records("val")) - len(lost)
    assert found["pixel_error"] > 0


@pytest.mark.slow
def test_a_test_by_command_equals_one_in_python(root, tmp_path):
    torch.manual_seed(0)
    model = zoo.create("intuitive_physics_tiny")
    save_weights(tmp_path / "x.safetensors", model.state_dict())
    data = collisions(root, model, batch_size=2)
    data.store.load(range(len(data.index)))
    wanted = score(model.eval(), data, limit_test_batches=2)
    named = ["--model", model.name, f"--weights={tmp_path / 'x.safetensors'}", *COMMAND, f"--data.root={root}"]
    more = ["--data.batch_size=2", "--trainer.limit_test_batches=2", f"--trainer.default_root_dir={tmp_path}"]
    found = train(["test", *named, *more]).trainer.callback_metrics
    assert {name: float(value) for name, value in found.items()} == pytest.approx(wanted, rel=1e-6)


@pytest.mark.slow
def test_two_processes_are_as_one(root, tmp_path):
    """A test to the last digits; and what is trained together is the same in both."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, __file__, str(root), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    model = small()
    data = collisions(root, model)
    data.store.load(range(len(data.index)))
    found = torch.load(tmp_path / "found.pt")
    assert found == pytest.approx(score(model, data), rel=1e-6)
    assert found["videos"] == len(data.records("val"))
    one, two = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert same(one, two)
    assert not same(network(one), network(model.state_dict()))
    assert not torch.equal(one["ratios.mass_double.0.weight"], model.ratios["mass_double"][0].weight)


class Kept(pl.Callback):
    """Writes down what a process has in the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer, module) -> None:
        torch.save(module.state_dict(), self.folder / f"{trainer.global_rank}.pt")


def share(root: Path, out: Path) -> None:
    """A test and a training in two processes, which are forked: importing takes longer than both."""
    torch.set_num_threads(1)
    physics_vector.teach = functools.partial(teach, steps=3)
    model = small(stages=(1, 1, 1))
    data = collisions(root, model)
    data.store.load(range(len(data.index)))
    together = {**QUIET, "strategy": "ddp_fork", "devices": 2}
    torch.save(score(model, data, **together), out / "found.pt")
    trainer = pl.Trainer(**together, max_epochs=3, limit_train_batches=2, limit_val_batches=0, callbacks=[Kept(out)])
    trainer.fit(model.train(), data)


if __name__ == "__main__":
    share(Path(sys.argv[1]), Path(sys.argv[2]))
