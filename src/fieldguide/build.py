"""Build the book: ``python -m fieldguide.build [FOLDER]``, which is what ``make book`` runs.

It is ``jupyter-book build FOLDER -W -n --keep-going`` from scratch (executed notebooks are kept), on
all processors, with the words that a person at a terminal needs: a line for each chapter that ran,
the way to the first page, and where something failed one block that says what and where. A book in
which nothing has changed since it was built is not built again.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import redirect_stderr
from pathlib import Path

import yaml
from filelock import FileLock, Timeout

from fieldguide.html import repository_address, site_address

INPUTS = (
    "_config.yml",
    "_toc.yml",
    "uv.lock",
    "book/**/*",
    "data/*",
    "notebooks/*.ipynb",
    "src/**/*.py",
)
"""What the pages depend on, from the root."""


def digest_of_site(root: Path) -> str:
    """Return a digest of everything that the built pages depend on."""
    known = f"{platform.python_version()} {site_address(root)} {repository_address(root)}"
    digest = hashlib.sha256(known.encode())
    for path in _files(root, INPUTS):
        digest.update(path.relative_to(root).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _files(root: Path, patterns: Iterable[str]) -> Iterator[Path]:
    for pattern in patterns:
        yield from (path for path in sorted(root.glob(pattern)) if path.is_file())


def _listing(html: Path) -> str:
    """Return a digest of the names, sizes and dates of the built files."""
    digest = hashlib.sha256()
    for path in _files(html, ["**/*"]):
        about = path.stat()
        digest.update(f"{path.relative_to(html)} {about.st_size} {about.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def is_current(root: Path) -> bool:
    """Return whether the site was built from what is there now, and is still as it was built."""
    try:
        stamp = json.loads((root / "_build" / "site.json").read_text(encoding="utf-8"))
        return stamp == _stamp(root, digest_of_site(root))
    except (OSError, ValueError):
        return False


def keep_stamp(root: Path, inputs: str) -> None:
    """Note from which sources, told by their digest, the site was built that lies there now."""
    (root / "_build" / "site.json").write_text(json.dumps(_stamp(root, inputs)), encoding="utf-8")


def _stamp(root: Path, inputs: str) -> dict[str, str]:
    return {"inputs": inputs, "pages": _listing(root / "_build" / "html")}


def build(root: Path) -> int:
    """Build the book in a folder, unless it is built already.

    Parameters
    ----------
    root : Path
        The folder of ``_config.yml`` and ``_toc.yml``.

    Returns
    -------
    int
        0 if the pages in ``_build/html`` are those of the present sources.
    """
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    (root / "_build").mkdir(exist_ok=True)
    lock = FileLock(root / "_build" / "build.lock")
    try:
        held = lock.acquire(blocking=False)
    except Timeout:
        _say("Another build is at work in this folder; waiting for it.")
        held = lock.acquire()
    with held:
        inputs = digest_of_site(root)  # what is changed while the book is built is not in it
        if is_current(root):
            _say("Nothing has changed since the book was built.")
        elif trouble := _build_anew(root):
            _say(f"\n{'─' * 80}\n{trouble}\n{'─' * 80}")
            return 1
        else:
            keep_stamp(root, inputs)
        first = root / "_build" / "html" / f"{toc['root']}.html"
        _say(f"The book is built. First page: {first.as_uri()}")
    return 0


def _build_anew(root: Path) -> str:
    """Return an empty string, or what went wrong and what to do about it."""
    from jupyter_book.sphinx import build_sphinx

    from fieldguide.sphinx_ext import ChaptersFailedError

    html = root / "_build" / "html"
    for old in (html, root / "_build" / ".doctrees"):
        shutil.rmtree(old, ignore_errors=True)
    warnings = io.StringIO()
    with redirect_stderr(warnings):
        result = build_sphinx(
            root,
            html,
            noconfig=True,
            path_config=root / "_config.yml",
            confoverrides={
                "external_toc_path": str(root / "_toc.yml"),
                "latex_individualpages": False,
                "nitpicky": True,
            },
            warningiserror=True,
            keep_going=True,
            quiet=True,
            jobs=os.cpu_count() or 1,
        )
    if isinstance(result, KeyboardInterrupt):
        raise result
    if isinstance(result, ChaptersFailedError):
        return f"{result.category}.\n\n{result}"
    said = re.sub(r"\x1b\[[0-9;]*m", "", warnings.getvalue()).strip().replace(f"{root}{os.sep}", "")
    if result != 0:
        remedy = (
            "what to do  each line names the page, the line (or cell) and what is wrong with it; mend "
            "them and\n            build again. Chapters that ran are not run again."
        )
        return f"The book was not built: pages with warnings are refused.\n\n{said}\n\n{remedy}"
    if said:
        _say(said)
    return ""


def _say(words: str) -> None:
    print(words, flush=True)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m fieldguide.build", description="Build the book.")
    parser.add_argument("folder", nargs="?", default=".", type=Path, help="where _config.yml stands")
    root = parser.parse_args().folder.resolve()
    for name in ("_config.yml", "_toc.yml"):
        if not (root / name).is_file():
            parser.error(f"{root / name}: there is no such file; run this in the project's folder")
    try:
        return build(root)
    except KeyboardInterrupt:
        _say("\nStopped. Chapters that had run are kept.")
        return 130


if __name__ == "__main__":
    sys.exit(main())
