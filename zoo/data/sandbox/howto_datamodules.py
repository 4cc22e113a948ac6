"""The how-to world as datamodules: those of the official layouts, rendered into the cache where no root is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zoo.data.coin import Coin
from zoo.data.crosstask import CrossTask
from zoo.data.howto100m import HowTo100MFeatures
from zoo.data.sandbox.howto import (
    COIN_TESTING,
    COIN_TRAINING,
    CROSSTASK,
    RECIPE,
    render_coin,
    render_crosstask,
    render_howto100m,
)
from zoo.data.sandbox.rendered import Rendered
from zoo.spec import VideoSpec


class SandboxHowTo100M(Rendered, HowTo100MFeatures):
    """The rendered videos to learn from by order alone, in the layout of HowTo100M."""

    name = "sandbox_howto100m"
    folder = f"howto100m-{RECIPE}"

    def __init__(
        self,
        root: str | Path | None = None,
        spec: VideoSpec | None = None,
        batch_size: int = 128,
        num_workers: int = 2,
        seed: int = 0,
        min_videos: int = 100,
        **options: Any,
    ) -> None:
        """As `HowTo100MFeatures`; ``root=None`` renders into the user's cache on first use."""
        super().__init__(root, spec, batch_size, num_workers, seed, min_videos=min_videos, **options)

    def render(self, *, training: bool) -> None:
        render_howto100m(self.root)


class SandboxCoin(Rendered, Coin):
    """The rendered videos with the times of their steps, in the layout of COIN."""

    name = "sandbox_coin"
    folder = f"coin-{RECIPE}"

    def __init__(
        self,
        root: str | Path | None = None,
        spec: VideoSpec | None = None,
        batch_size: int = 16,
        expected: int | None = COIN_TESTING,
        **options: Any,
    ) -> None:
        """As `Coin`; ``root=None`` renders into the user's cache on first use."""
        super().__init__(root, spec, batch_size, expected=expected, **options)

    def render(self, *, training: bool) -> None:
        render_coin(self.root, training=COIN_TRAINING if training else 0)


class SandboxCrossTask(Rendered, CrossTask):
    """The rendered videos with steps and what narrators say of them, in the layout of CrossTask."""

    name = "sandbox_crosstask"
    folder = f"crosstask-{RECIPE}"

    def __init__(
        self,
        root: str | Path | None = None,
        spec: VideoSpec | None = None,
        batch_size: int = 16,
        expected: int | None = CROSSTASK,
        **options: Any,
    ) -> None:
        """As `CrossTask`; ``root=None`` renders into the user's cache on first use."""
        super().__init__(root, spec, batch_size, expected=expected, **options)

    def render(self, *, training: bool) -> None:
        render_crosstask(self.root)
