"""The how-to films as a datamodule, rendered into the cache where no root is given."""

from __future__ import annotations

from zoo.data.json_files import read_json
from zoo.data.narrated import Narrated
from zoo.data.sandbox.howto_films import COIN_TESTING, RECIPE, TRAIN, render_howto_films
from zoo.data.sandbox.rendered import Rendered


class SandboxHowTo100MFilms(Rendered, Narrated):
    """The rendered films with their narration, in the layout of HowTo100M; those of COIN's test subset are held out."""

    name = "sandbox_howto100m_films"
    folder = f"howto100m-films-{RECIPE}"

    def render(self, *, training: bool) -> None:
        render_howto_films(self.root, train=TRAIN if training else 0, training=0, testing=COIN_TESTING)

    def split_names(self, split: str) -> list[str]:
        if split == "train":
            return self._listed
        database = read_json(self.root / "COIN.json", dict)["database"]
        return [name for name, entry in database.items() if entry["subset"] == "testing"]
