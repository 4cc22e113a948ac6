"""The data sets by name. Naming one costs nothing; its module is imported when it is asked for."""

from __future__ import annotations

import importlib

from zoo.errors import unknown_name

DATA_SETS = {
    "charades": "zoo.data.charades.Charades",
    "coin": "zoo.data.coin.Coin",
    "crosstask": "zoo.data.crosstask.CrossTask",
    "davis2016": "zoo.data.davis.Davis2016",
    "davis2017": "zoo.data.davis.Davis2017",
    "folder": "zoo.data.video_folder.VideoFolder",
    "howto100m": "zoo.data.narrated.Narrated",
    "howto100m_features": "zoo.data.howto100m.HowTo100MFeatures",
    "jhmdb": "zoo.data.jhmdb.Jhmdb",
    "kinetics": "zoo.data.kinetics.Kinetics",
    "oops": "zoo.data.oops.Oops",
    "physics_collisions": "zoo.data.physics_collisions.PhysicsCollisions",
    "sandbox_charades": "zoo.data.sandbox.datamodules.SandboxCharades",
    "sandbox_coin": "zoo.data.sandbox.howto_datamodules.SandboxCoin",
    "sandbox_crosstask": "zoo.data.sandbox.howto_datamodules.SandboxCrossTask",
    "sandbox_davis": "zoo.data.sandbox.datamodules.SandboxDavis",
    "sandbox_howto100m": "zoo.data.sandbox.howto_datamodules.SandboxHowTo100M",
    "sandbox_howto100m_films": "zoo.data.sandbox.film_datamodules.SandboxHowTo100MFilms",
    "sandbox_jhmdb": "zoo.data.sandbox.datamodules.SandboxJhmdb",
    "sandbox_kinetics": "zoo.data.kinetics.SandboxKinetics",
    "sandbox_oops": "zoo.data.sandbox.datamodules.SandboxOops",
    "sandbox_vip": "zoo.data.sandbox.datamodules.SandboxVip",
    "sandbox_vlog": "zoo.data.sandbox.datamodules.SandboxVlog",
    "vip": "zoo.data.vip.Vip",
    "vlog": "zoo.data.vlog.Vlog",
}


def datamodule_class(name: str) -> type:
    """The `LightningDataModule` class of a data set.

    Raises:
        zoo.UnknownNameError: no such data set.
    """
    if name not in DATA_SETS:
        raise unknown_name("data set", name, DATA_SETS)
    module, _, cls = DATA_SETS[name].rpartition(".")
    return getattr(importlib.import_module(module), cls)
