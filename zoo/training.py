"""`zoo fit`, `zoo validate`, `zoo test`: Lightning's own command line, on registered names.

    zoo fit --model nonlocal_i3d_r50 --model.num_classes 157 --weights imagenet \\
            --data kinetics --data.root /data/k400 --data.batch_size 8 \\
            --trainer.devices 8 --trainer.strategy ddp

Names become class paths before Lightning sees them, so a saved ``config.yaml`` is an ordinary Lightning configuration.
"""

from __future__ import annotations

import inspect
import sys
import warnings
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from pytorch_lightning.utilities.model_helpers import is_overridden

from zoo import registry
from zoo.data.catalog import DATA_SETS, datamodule_class
from zoo.errors import DataError, UnknownNameError, ZooError
from zoo.hub.manifest import manifest

_NAMED = 5  # videos that cannot be read are named as far as this


class ZooCLI(LightningCLI):
    """Serves the data by the model's spec, trains as long as the paper did, and keeps what a killed run needs."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's, without ``predict``: `zoo predict` is another command."""
        return {name: skip for name, skip in LightningCLI.subcommands().items() if name != "predict"}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments("model", "data.init_args.spec", compute_fn=lambda m: m.spec, apply_on="instantiate")

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        said = self.config[self.subcommand].trainer
        if self.subcommand != "fit":
            return super().instantiate_trainer(**kwargs)
        if said.enable_checkpointing is not False and not said.fast_dev_run:
            kept = [ModelCheckpoint(save_last=True), ModelCheckpoint(filename="recent", every_n_train_steps=1000)]
            kwargs["callbacks"] = [*(self.config_init[self.subcommand].trainer.callbacks or ()), *kept]
        trainer = super().instantiate_trainer(**kwargs)
        if not (said.max_epochs or said.max_time or said.max_steps != -1 or said.fast_dev_run):
            if self.model.recipe.epochs:
                trainer.fit_loop.max_epochs = self.model.recipe.epochs
                return trainer
            moments = self.model.spec.moments
            sample = moments.together if moments else 1  # frames
            batch = self.datamodule.batch_size * sample * trainer.world_size * trainer.accumulate_grad_batches
            trainer.fit_loop.epoch_loop.max_steps = self.model.recipe.steps(batch)
            trainer.fit_loop.max_epochs = -1
        return trainer

    def before_fit(self) -> None:
        """A model that has nothing to learn says so, instead of Lightning of its methods."""
        if not is_overridden("training_step", self.model):
            raise ZooError(f"{self._named()} {getattr(self.model, 'untrainable', 'has nothing to learn')}.")

    def before_validate(self) -> None:
        """An untrained model has nothing to validate; its chance level would look like a result."""
        if self.subcommand == "validate" and not is_overridden("validation_step", self.model):
            raise ZooError(f"{self._named()} has no validation; `zoo test` scores it, on davis2017, jhmdb or vip.")
        said = self.config[self.subcommand]
        if said.ckpt_path is None and said.model.init_args.get("weights", "its own") is None:
            raise ZooError(
                f"zoo {self.subcommand} wants trained weights: give --ckpt_path FILE or --weights NAME "
                "(--weights default is the model's own checkpoint)."
            )

    before_test = before_validate

    def after_fit(self) -> None:
        """Name the videos that could not be read."""
        messages = list(getattr(self.datamodule, "unreadable", {}).values())
        for message in messages[:_NAMED] if self.trainer.is_global_zero else ():
            print(f"zoo: {message}", file=sys.stderr)
        if len(messages) > _NAMED and self.trainer.is_global_zero:
            print(f"zoo: and {len(messages) - _NAMED} more videos that cannot be read", file=sys.stderr)

    def after_validate(self) -> None:
        """The same; the score of no video at all is an error, for it would look like a result."""
        self.after_fit()
        prefix = "val_" if self.subcommand == "validate" else ""
        if not float(self.trainer.callback_metrics.get(f"{prefix}videos", 1)):
            raise DataError(f"{self.datamodule.name} in {self.datamodule.root}: none of the videos could be scored.")

    after_test = after_validate

    def _named(self) -> str:
        return getattr(self.model, "name", "") or type(self.model).__name__


def train(argv: list[str]) -> ZooCLI:
    """Run one of Lightning's subcommands.

    Args:
        argv: ``["fit", "--model", NAME, "--data", NAME, ...]``; ``--weights W`` is short for ``--model.weights W``.

    Raises:
        UnknownNameError: no such model or data set.
        ZooError: whatever the model, the data or the Trainer refuse, out of the wrappings that the command line puts
            around it.
    """
    warnings.filterwarnings("ignore", "LightningCLI's args parameter")  # the names had to be resolved first
    try:
        return ZooCLI(
            pl.LightningModule,
            pl.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            seed_everything_default=0,
            save_config_kwargs={"overwrite": True},
            parser_kwargs={"prog": "zoo"},
            args=resolve(argv),
        )
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, ZooError):
            cause = cause.__cause__ or cause.__context__
        if cause is None and isinstance(error, MisconfigurationException):
            raise ZooError(str(error)) from None
        if cause is None:
            raise
        raise cause from None


def resolve(argv: list[str]) -> list[str]:
    """Registered names in ``--model``, ``--data`` and ``--weights`` to what Lightning's command line understands."""
    command, *rest = argv
    resolved, given = [command], set()
    words = iter(rest)
    for word in words:
        option, equals, value = word.partition("=")
        given.add(option)
        if option not in ("--model", "--data", "--weights") or (not equals and (value := next(words, None)) is None):
            resolved.append(word)
        elif option == "--weights":
            resolved.append(f"--model.weights={value}")
        else:
            resolved.append(f"{option}={_class_path(option, value)}")
    if "--data" in given and not given & {"--data.root", "--data.init_args.root", "--config", "-c", "--data.help"}:
        _must_not_need_root(resolved)
    if command != "fit" and "--model" in given and not given & {"--weights", "--model.weights", "--ckpt_path"}:
        resolved.append("--model.weights=default")  # an untrained model has nothing to validate
    return resolved


def _class_path(option: str, value: str) -> str:
    if option == "--model" and value in manifest():
        model = manifest().get(value).model
        raise UnknownNameError(f"{value!r} is a checkpoint, not a model: say --model {model} --weights {value}.")
    if "." in value and value not in DATA_SETS:  # already a class path, or a file
        return value
    if option == "--model":
        return f"zoo.models.{registry.entry(value).name}"
    datamodule_class(value)
    return DATA_SETS[value]


def _must_not_need_root(resolved: list[str]) -> None:
    """Say in a sentence what the parser would say in a page."""
    path = next(word for word in resolved if word.startswith("--data="))[7:]
    names = [name for name, known in DATA_SETS.items() if known == path]
    if names and inspect.signature(datamodule_class(names[0])).parameters["root"].default is inspect.Parameter.empty:
        raise DataError(f"--data {names[0]} needs --data.root FOLDER, the folder that holds its official release.")
