"""Datamodules whose data set renders itself into the user's cache where no root is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pytorch_lightning import LightningDataModule
from pytorch_lightning.trainer.states import TrainerFn

from zoo.files import cache_root
from zoo.spec import VideoSpec


class Rendered(LightningDataModule):
    """To be inherited before the datamodule of the official layout.

    Attributes:
        folder: of the data set in the cache; its recipe's number is part of it.
    """

    folder: ClassVar[str]

    def __init__(
        self,
        root: str | Path | None = None,
        spec: VideoSpec | None = None,
        batch_size: int = 8,
        num_workers: int = 2,
        seed: int = 0,
        **options: Any,
    ) -> None:
        """As the official layout's; ``root=None`` renders the videos into the user's cache on first use."""
        place = root or cache_root() / "sandbox" / self.folder
        super().__init__(place, spec, batch_size, num_workers, seed, **options)
        self._render = root is None

    def render(self, *, training: bool) -> None:
        """Render what is not there yet; ``training`` says whether the training videos are wanted too."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it is rendered.")

    def prepare_data(self) -> None:
        """Render what is not there yet; one process of a machine does it, the others wait."""
        if self._render:
            self.render(training=self.trainer is None or self.trainer.state.fn == TrainerFn.FITTING)
