"""The package as others get it: a wheel in an empty environment, where the README's lines run."""

import ast
import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import NO_UV, ROOT, find_uv

import fieldguide

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", README, flags=re.S)
CORE, MODELS = BLOCKS  # what runs with the core alone, and what goes on from there with PyMC
NO_INDEX = ("error sending request", "Failed to fetch", "dns error", "timed out", "Connection refused")


def run(*command, cwd) -> subprocess.CompletedProcess:
    result = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result


def built(kind: str, source: Path, folder: Path) -> Path:
    pytest.importorskip("hatchling", reason="hatchling builds the wheel; it is in the dev group")
    run(sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", folder, cwd=source)
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    return built("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_wheel_carries_tables_codebook_and_types(wheel):
    files = contents(wheel)
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.2f} MB, {len(files)} files")
    expected = {
        path for path in (ROOT / "data").iterdir() if path.suffix in (".csv", ".parquet", ".json")
    }
    assert len(expected) > 10
    for path in {*expected, ROOT / "data" / "README.md"}:
        assert files[f"fieldguide/_data/{path.name}"] == path.read_bytes()
    assert "fieldguide/py.typed" in files
    assert {name.partition("/")[0] for name in files} == {"fieldguide", "fieldguide-0.1.0.dist-info"}


def test_source_distribution_makes_the_same_wheel(wheel, tmp_path):
    archive = built("sdist", ROOT, tmp_path / "sdist")
    shutil.unpack_archive(archive, tmp_path, filter="data")
    again = built("wheel", tmp_path / archive.name.removesuffix(".tar.gz"), tmp_path / "wheel")
    assert contents(again) == contents(wheel)


def find_python(version: str, uv: str) -> str | None:
    """Return an interpreter of this version, without asking the network for one."""
    if sys.version.startswith(f"{version}."):
        return sys.executable
    command = [uv, "python", "find", "--system", "--no-python-downloads", "--quiet", version]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if found.returncode == 0:
        return found.stdout.strip()
    if shutil.which("pyenv"):  # its shims show only the project's own version
        found = subprocess.run(["pyenv", "prefix", version], capture_output=True, text=True)
        if found.returncode == 0:
            return str(Path(found.stdout.strip()) / "bin" / "python")
    return None


@pytest.fixture(scope="module", params=["3.12", "3.13"])
def empty(request, wheel, tmp_path_factory):
    """Return the Python of an environment that has the wheel, its dependencies and nothing else."""
    uv = find_uv()
    if uv is None:
        pytest.skip(NO_UV)
    interpreter = find_python(request.param, uv)
    if interpreter is None:
        pytest.skip(f"Python {request.param} is not on this machine")
    folder = tmp_path_factory.mktemp("empty")
    run(uv, "venv", "--quiet", "--python", interpreter, folder / "env", cwd=folder)
    (python,) = [path for path in (folder / "env").glob("*/python*") if path.stem == "python"]
    install = [
        uv,
        "pip",
        "install",
        "--python",
        python,
        "--constraint",
        ROOT / "requirements.txt",
        wheel,
    ]
    for network in (["--offline"], []):
        result = subprocess.run([*install, *network], cwd=folder, capture_output=True, text=True)
        if result.returncode == 0:
            break
    if any(words in result.stderr for words in NO_INDEX):
        pytest.skip(f"uv's cache lacks wheels for Python {request.param}; the index cannot be reached")
    assert result.returncode == 0, result.stderr
    yield python
    shutil.rmtree(folder)


def test_readme_runs_in_an_empty_environment(empty, tmp_path):
    code, printed = CORE
    assert len(code.strip().splitlines()) <= 8
    (tmp_path / "readme.py").write_text(code, encoding="utf-8")
    result = run(empty, "-E", "readme.py", cwd=tmp_path)
    assert result.stdout.split() == printed.split()
    assert result.stderr == ""


@pytest.mark.slow
def test_readme_goes_on_with_pymc(tmp_path):
    (tmp_path / "readme.py").write_text(CORE[0] + MODELS[0], encoding="utf-8")
    result = run(sys.executable, "readme.py", cwd=tmp_path)
    assert "<Score of" in result.stdout


def test_core_is_small_and_installs_no_sampler(empty, tmp_path):
    listed = run(find_uv(), "pip", "list", "--python", empty, "--format", "json", cwd=tmp_path)
    names = {package["name"] for package in json.loads(listed.stdout)} - {"fieldguide"}
    print(f"{len(names)} dependencies: {', '.join(sorted(names))}")
    assert not names & {"bambi", "ipython", "jupyter-book", "matplotlib", "nutpie", "pymc", "sphinx"}
    assert len(names) < 35


def test_tables_load_from_the_wheel(empty, tmp_path):
    code = """
        import fieldguide as fg, pandas as pd
        from fieldguide.data import DATA_FOLDER
        print(len(fg.load_bangladesh()), len(fg.load_schools()), fg.load_three_districts().size)
        print(DATA_FOLDER.name, len(pd.read_parquet(DATA_FOLDER / "factorial.parquet")))
        from fieldguide import published
        print(len(published.published_summary("mme0")) > 0, fg.__version__)
    """
    result = run(empty, "-E", "-c", "\n".join(map(str.strip, code.splitlines())), cwd=tmp_path)
    assert result.stdout.split() == "1934 7185 6 _data 1280 True 0.1.0".split()


CORE_MODULES = (
    "claims cli counts data data.stored fits grid priors problem published reference reml scores studies"
)


def test_core_modules_need_no_extra(empty, tmp_path):
    run(
        empty,
        "-E",
        "-c",
        "\n".join(f"import fieldguide.{m}" for m in CORE_MODULES.split()),
        cwd=tmp_path,
    )


def test_a_missing_extra_is_named(empty, tmp_path):
    for line in (
        "fieldguide.varying_intercept_model",
        "fieldguide.sample",
        "fieldguide.models",
        "from fieldguide import models",
        "from fieldguide import sample",
    ):
        code = f"import fieldguide\ntry: {line}\nexcept ImportError as error: print(error)"
        result = run(empty, "-E", "-c", code, cwd=tmp_path)
        assert 'needs pymc, which is not installed: pip install "fieldguide[models]"' in result.stdout


def test_import_is_lazy(empty, tmp_path):
    code = """
        import sys, time
        start = time.perf_counter()
        import fieldguide
        seconds = time.perf_counter() - start
        print(f"{seconds:.3f}", *{name.partition(".")[0] for name in sys.modules})
    """
    result = run(empty, "-E", "-c", "\n".join(map(str.strip, code.splitlines())), cwd=tmp_path)
    seconds, *imported = result.stdout.split()
    print(f"import fieldguide takes {seconds} s")
    assert not {"arviz", "numpy", "pandas", "pandera", "pymc", "scipy", "tqdm", "xarray"} & set(imported)


def test_every_name_of_the_package_leads_somewhere():
    for name in {*fieldguide.__all__, *fieldguide._MODULES}:
        assert getattr(fieldguide, name) is not None
    assert set(fieldguide.__all__) <= set(dir(fieldguide))
    with pytest.raises(AttributeError, match="exact_posteriors"):
        fieldguide.exact_posteriors  # noqa: B018


def test_type_checkers_see_the_names_that_exist():
    tree = ast.parse(Path(fieldguide.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.name: node.module.removeprefix("fieldguide.")
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module.startswith("fieldguide.")
        for alias in node.names
    }
    assert seen == fieldguide._HOMES
    assert set(fieldguide.__all__) == {*fieldguide._HOMES, "__version__"}
