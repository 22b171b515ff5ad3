"""One set of versions, and three doors to it."""

import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import canary
import nbformat
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


@pytest.mark.parametrize("name", ["requirements.txt", "assignments/requirements.txt"])
def test_requirements_are_a_fresh_export(name):
    uv = find_uv()
    if uv is None:
        pytest.skip(NO_UV)
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8")
    options = re.search(rf"\$\(UV\) export (.*) > {re.escape(name)}\n", recipe).group(1).split()
    export = subprocess.run(
        [uv, "export", *options, "--offline"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert export.stdout == (ROOT / name).read_text(encoding="utf-8")


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


# ---------------------------------------------------------------------------------------------
# What CI runs


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_an_action_is_pinned_to_a_commit_and_says_its_version(workflow):
    """A tag can be moved to other code; a commit cannot."""
    uses = re.findall(r"\buses:[ ]*(.*)", workflow.read_text(encoding="utf-8"))
    assert uses
    for action in uses:
        assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


def test_workflows_run_jobs_that_the_makefile_has():
    jobs = set(
        re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M)
    )
    scripts = [*WORKFLOWS, ROOT / ".ci" / "run"]
    lines = re.findall(
        r"^(?:\s*- run: )?make ([a-z ]+)",
        "\n".join(path.read_text(encoding="utf-8") for path in scripts),
        flags=re.M,
    )
    called = {job for line in lines for job in line.split()}
    assert {"lint", "types", "test", "book", "audit", "canary"} <= called <= jobs


def steps(workflow: str, job: str) -> list[dict]:
    text = (ROOT / ".github" / "workflows" / workflow).read_text(encoding="utf-8")
    return yaml.safe_load(text)["jobs"][job]["steps"]


def test_ci_runs_the_tests_as_the_readme_says():
    assert "bash .ci/run" in [step.get("run") for step in steps("book.yml", "build-and-test")]
    last = (ROOT / ".ci" / "run").read_text(encoding="utf-8").strip().splitlines()[-1]
    assert last == "make test"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(r"^make test +# run the tests$", readme, flags=re.M)


def test_only_the_main_branch_is_published():
    text = (ROOT / ".github" / "workflows" / "book.yml").read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)["jobs"].values()
    publishing = [job for job in jobs if "deploy-pages" in str(job["steps"])]
    assert [job["if"] for job in publishing] == ["github.ref == 'refs/heads/main'"]
    assert [job["needs"] for job in publishing] == ["build-and-test"]


# ---------------------------------------------------------------------------------------------
# The jobs of the Makefile

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@needs_make
@pytest.mark.parametrize("job", ["test", "quick", "coverage"])
def test_a_job_fails_when_its_tests_fail(job):
    command = ["make", "-s", "-o", "env", job, "PYTEST=false"]
    assert subprocess.run(command, cwd=ROOT, capture_output=True).returncode != 0


@needs_make
def test_the_environment_is_that_of_the_lock(tmp_path):
    """A uv that writes down what it is asked, and does nothing."""
    asked, uv = tmp_path / "asked", tmp_path / "uv"
    uv.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n')
    uv.chmod(0o755)
    for name in ("Makefile", "uv.lock"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venv").mkdir()
    for _ in range(2):
        subprocess.run(["make", "-s", "env", f"UV={uv}"], cwd=tmp_path, check=True)
    syncs = [line for line in asked.read_text().splitlines() if line.startswith("sync")]
    assert len(syncs) == 3
    assert all("--locked" in line for line in syncs)
    assert ["--compile-bytecode" in line for line in syncs] == [False, True, False]


def test_the_suite_is_strict_and_runs_the_examples(pytestconfig):
    assert pytestconfig.getini("xfail_strict")
    assert pytestconfig.option.strict_markers
    assert pytestconfig.option.doctestmodules
    assert {"src/fieldguide", "tests"} <= set(pytestconfig.getini("testpaths"))


def test_quick_leaves_out_only_what_needs_the_book_or_much_time(request):
    for item in request.session.items:
        if item.get_closest_marker("book"):
            assert {"site", "executed"} & set(item.fixturenames), item.nodeid


# ---------------------------------------------------------------------------------------------
# Hooks and the canary


def test_hooks_are_tools_of_the_environment():
    """Their versions are those of the lock, and they need no network."""
    configuration = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [repository["repo"] for repository in configuration["repos"]] == ["local"]
    hooks = configuration["repos"][0]["hooks"]
    tools = {hook["entry"].split()[0] for hook in hooks if hook["language"] == "system"}
    assert tools
    for tool in tools:
        assert Path(tool).parent == Path(".venv/bin")
        assert Path(sys.executable).with_name(Path(tool).name).exists(), tool


def code_cell_that_ran():
    return nbformat.v4.new_code_cell("1 + 1", execution_count=1)


def hook(name, file):
    return subprocess.run(
        [Path(sys.executable).with_name("pre-commit"), "run", name, "--files", file],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("name", "file", "text"),
    [
        ("ruff", "canary_hook.py", "import os\n"),
        ("ruff-format", "canary_hook.py", "x = 'a'\n"),
        ("blanks", "canary_hook.md", "a line \n"),
        ("conflict-markers", "canary_hook.md", "<<<<<<< ours\n"),
        (
            "nbstripout",
            "canary_hook.ipynb",
            nbformat.writes(nbformat.v4.new_notebook(cells=[code_cell_that_ran()])),
        ),
    ],
)
def test_a_hook_stops_what_it_is_for(name, file, text, tmp_path):
    if not (ROOT / ".git").exists():
        pytest.skip("pre-commit runs in a git repository")
    path = tmp_path / file
    path.write_text(text)
    result = hook(name, path)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "Failed" in result.stdout
    assert hook(name, "README.md").returncode == 0


def test_the_canary_says_what_is_newer_than_the_lock():
    before = {"same": "1.0", "newer": "1.0", "gone": "2.0"}
    after = {"same": "1.0", "newer": "1.10", "come": "3.0"}
    rows = canary.changes(before, after)
    assert rows == [("come", "-", "3.0"), ("gone", "2.0", "-"), ("newer", "1.0", "1.10")]
    assert canary.table(rows).splitlines() == [
        "package  locked  newest",
        "come     -       3.0",
        "gone     2.0     -",
        "newer    1.0     1.10",
    ]


def test_the_canary_reads_the_lock_and_leaves_the_checkout_alone(tmp_path):
    found = canary.locked(ROOT / "uv.lock")
    assert found["pymc"] == version("pymc")
    assert "fieldguide" not in found
    if not (ROOT / ".git").exists():
        pytest.skip("the canary copies what git has")
    canary.copy_checkout(tmp_path)
    (tmp_path / ".venv").mkdir()
    (tmp_path / "left behind").touch()
    canary.copy_checkout(tmp_path)
    assert (tmp_path / ".venv").exists()
    assert not (tmp_path / "left behind").exists()
    top = subprocess.check_output(["git", "rev-parse", "--show-toplevel"], cwd=tmp_path, text=True)
    assert Path(top.strip()).samefile(tmp_path)
