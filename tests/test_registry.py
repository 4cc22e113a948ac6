"""Names are read without torch, agree with what registers itself, and a wrong one is answered with the right one."""

from __future__ import annotations

import subprocess
import sys

import pytest

import zoo
from zoo import registry


def test_source_and_runtime_agree():
    for name in registry.list_models():
        registry.builder(name)
    assert {n: registry._RUNTIME[n] for n in registry._scan()} == registry._scan()


def test_listing_needs_no_torch():
    code = (
        "import sys, zoo, zoo.cli\n"
        "zoo.list_models(); zoo.list_models('*', pretrained=True)\n"
        "zoo.cli.main(['list'])\n"
        "try: zoo.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(', '.join(sorted({'torch', 'av', 'timm', 'pytorch_lightning'} & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_unknown_names_suggest():
    with pytest.raises(zoo.UnknownNameError, match="Did you mean nonlocal_i3d_r50"):
        zoo.create("nonlocal_i3d_r5O")
    with pytest.raises(zoo.UnknownNameError, match="num_classes"):
        zoo.create("i3d_tiny", num_class=3)
    with pytest.raises(zoo.UnknownNameError, match="kinetics"):
        zoo.datamodule("kinetic", root=".")


def test_alias_and_patterns():
    assert registry.entry("nonlocal_i3d").name == "nonlocal_i3d_r50"
    assert zoo.list_models("*i3d_tiny") == ["i3d_tiny", "nonlocal_i3d_tiny"]
    assert "nonlocal_i3d" not in zoo.list_models()


def test_a_method_outside_the_package_registers_itself():
    @registry.register("outsider_one", paper="nobody2026", width=3)
    def outsider(width: int = 1) -> type:
        class Built:
            pass

        Built.width = width
        return Built

    try:
        assert zoo.create("outsider_one").width == 3
        assert zoo.create("outsider_one", width=5).width == 5
        assert "outsider_one" in zoo.list_models("outsider*")
        with pytest.raises(zoo.ZooError, match="registered twice"):
            registry.register("c2d_r50", paper="nobody2026")(outsider)
    finally:
        registry._RUNTIME.pop("outsider_one", None)
        registry._BUILDERS.pop("outsider_one", None)
