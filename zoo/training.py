"""`zoo fit`, `zoo validate`, `zoo test`: Lightning's own command line, on registered names.

    zoo fit --model nonlocal_i3d_r50 --model.num_classes 157 --weights imagenet \\
            --data kinetics --data.root /data/k400 --data.batch_size 8 \\
            --trainer.devices 8 --trainer.strategy ddp

Names become class paths before Lightning sees them, so a saved ``config.yaml`` is an ordinary Lightning configuration.
"""

from __future__ import annotations

import warnings

import pytorch_lightning as pl
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI

from zoo import registry
from zoo.data.catalog import DATA_SETS, datamodule_class


class ZooCLI(LightningCLI):
    """Serves the data by the model's spec, and trains as long as the paper did unless told otherwise."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments("model", "data.init_args.spec", compute_fn=lambda m: m.spec, apply_on="instantiate")

    def instantiate_trainer(self, **kwargs: object) -> pl.Trainer:
        trainer = super().instantiate_trainer(**kwargs)
        said = self.config[self.subcommand].trainer
        if self.subcommand == "fit" and not (
            said.max_epochs or said.max_time or said.max_steps != -1 or said.fast_dev_run
        ):
            batch = self.datamodule.batch_size * trainer.world_size * trainer.accumulate_grad_batches
            trainer.fit_loop.epoch_loop.max_steps = self.model.recipe.steps(batch)
            trainer.fit_loop.max_epochs = -1
        return trainer


def train(argv: list[str]) -> ZooCLI:
    """Run one of Lightning's subcommands.

    Args:
        argv: ``["fit", "--model", NAME, "--data", NAME, ...]``; ``--weights W`` is short for ``--model.weights W``.

    Raises:
        UnknownNameError: no such model or data set.
    """
    warnings.filterwarnings("ignore", "LightningCLI's args parameter")  # the names had to be resolved first
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
    if command != "fit" and "--model" in given and not given & {"--weights", "--model.weights", "--ckpt_path"}:
        resolved.append("--model.weights=default")  # an untrained model has nothing to validate
    return resolved


def _class_path(option: str, value: str) -> str:
    if "." in value and value not in DATA_SETS:  # already a class path, or a file
        return value
    if option == "--model":
        return f"zoo.models.{registry.entry(value).name}"
    datamodule_class(value)
    return DATA_SETS[value]
