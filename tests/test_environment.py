"""One set of versions, and three doors to it."""

import re
import subprocess
import tomllib

import pytest
import yaml
from conftest import NO_UV, ROOT, find_uv


def test_requirements_are_the_lock():
    """What the book needs, directly or not, is pinned to the version of the lock."""
    lock = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))
    locked = {package["name"]: package.get("version") for package in lock["package"]}
    pinned = dict(
        re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / "requirements.txt").read_text(), flags=re.M)
    )
    assert len(pinned) > 100
    assert {name: locked.get(name) for name in pinned} == pinned
    project = next(p for p in lock["package"] if p["name"] == "fieldguide")
    direct = project["dependencies"] + project["optional-dependencies"]["book"]  # models are in it
    needed, found = [d["name"] for d in direct], set()
    while needed:
        name = needed.pop()
        if name not in found:
            found.add(name)
            entry = next(p for p in lock["package"] if p["name"] == name)
            needed += [d["name"] for d in entry.get("dependencies", [])]
    assert found <= set(pinned)  # the rest comes from extras of these


def test_requirements_are_a_fresh_export():
    uv = find_uv()
    if uv is None:
        pytest.skip(NO_UV)
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8")
    options = re.search(r"\$\(UV\) export (.*) > requirements\.txt", recipe).group(1).split()
    export = subprocess.run(
        [uv, "export", *options, "--offline"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert export.stdout == (ROOT / "requirements.txt").read_text(encoding="utf-8")


def test_environment_for_conda_uses_the_same_versions():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python = (ROOT / ".python-version").read_text(encoding="utf-8").strip()
    assert f"python={python}" in environment["dependencies"]
    (pip,) = [d["pip"] for d in environment["dependencies"] if isinstance(d, dict)]
    assert "-r requirements.txt" in pip
    assert "-e ." in pip


def test_lock_names_only_public_sources():
    lock = (ROOT / "uv.lock").read_text(encoding="utf-8")
    assert set(re.findall(r'registry = "([^"]+)"', lock)) == {"https://pypi.org/simple"}
    assert "file://" not in lock
