"""The scenes as datamodules: those of the official layouts, rendered into the cache where no root is given."""

from __future__ import annotations

from typing import ClassVar

from zoo.data.activities import ActivityVocabulary, packaged_vocabulary
from zoo.data.charades import Charades
from zoo.data.davis import Davis2017
from zoo.data.jhmdb import Jhmdb
from zoo.data.oops import Oops
from zoo.data.sandbox.charades import RECIPE as CHARADES_RECIPE
from zoo.data.sandbox.charades import TRAIN as CHARADES_TRAIN
from zoo.data.sandbox.charades import render_charades
from zoo.data.sandbox.correspondence import RECIPE, render_davis, render_jhmdb, render_vip, render_vlog
from zoo.data.sandbox.oops import RECIPE as OOPS_RECIPE
from zoo.data.sandbox.oops import TRAIN, render_oops
from zoo.data.sandbox.rendered import Rendered
from zoo.data.vip import Vip
from zoo.data.vlog import Vlog


class SandboxVlog(Rendered, Vlog):
    """The rendered training videos in the VLOG layout."""

    name = "sandbox_vlog"
    folder = f"vlog-{RECIPE}"

    def render(self, *, training: bool) -> None:
        render_vlog(self.root)


class SandboxDavis(Rendered, Davis2017):
    """The rendered sequences of objects in the layout of DAVIS-2017."""

    name = "sandbox_davis"
    folder = f"davis-{RECIPE}"

    def render(self, *, training: bool) -> None:
        render_davis(self.root)


class SandboxJhmdb(Rendered, Jhmdb):
    """The rendered sequences of joints in the layout of JHMDB."""

    name = "sandbox_jhmdb"
    folder = f"jhmdb-{RECIPE}"

    def render(self, *, training: bool) -> None:
        render_jhmdb(self.root)


class SandboxVip(Rendered, Vip):
    """The rendered sequences of body parts in the layout of VIP."""

    name = "sandbox_vip"
    folder = f"vip-{RECIPE}"

    def render(self, *, training: bool) -> None:
        render_vip(self.root)


class SandboxOops(Rendered, Oops):
    """The rendered mishaps, with times and goals, in the layout of Oops!."""

    name = "sandbox_oops"
    folder = f"oops-{OOPS_RECIPE}"

    def render(self, *, training: bool) -> None:
        render_oops(self.root, train=TRAIN if training else 0)


class SandboxCharades(Rendered, Charades):
    """The rendered household activities, with their times, in the layout of Charades."""

    name = "sandbox_charades"
    folder = f"charades-{CHARADES_RECIPE}"
    classes = packaged_vocabulary("sandbox_charades").classes
    packaged: ClassVar[ActivityVocabulary] = packaged_vocabulary("sandbox_charades")

    def render(self, *, training: bool) -> None:
        train = CHARADES_TRAIN if training else 0
        render_charades(self.root, train=train, flow=self._wants_flow)
