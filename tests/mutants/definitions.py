"""Deliberate changes of the project: where they are kept, and how they are applied.

A file of this folder such as ``words.toml`` holds one class of mutants. Each is a small edit with a
name and the reason why a reader should care:

``file``, ``old``, ``new``
    In this file the old text, which must stand there exactly once, becomes the new one. In a notebook
    it stands in the source of a cell.
``table``, ``row``, ``column``, ``value``
    In the stored table ``data/<table>.parquet`` one cell gets another value.
``also``
    A list of further edits of either kind.
``checksums``
    Whether what vouches for the data is changed with them: the SHA-256 in the JSON beside a stored
    table, and the lines of ``data/SHA256SUMS``. A forger would do so.
``first``
    The check that is likely to notice: a file or test for pytest, a notebook to run, ``lint`` or
    ``book``.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent


class DoesNotApplyError(ValueError):
    """The text that a mutant changes is not there, or is there more than once."""


@dataclass(frozen=True)
class Mutant:
    """One deliberate change."""

    name: str
    kind: str  # the class of mutants, as its file says
    why: str
    first: str
    edits: tuple[dict, ...]
    checksums: bool = False

    @property
    def digest(self) -> str:
        """Changes with what the mutant does and how it is looked for."""
        text = json.dumps([self.first, self.edits, self.checksums], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def changes(self, root: Path) -> dict[Path, bytes]:
        """Return the new content of each file that the mutant changes in a checkout."""
        new: dict[Path, bytes] = {}
        for edit in self.edits:
            if "table" in edit:
                path = root / "data" / f"{edit['table']}.parquet"
                new[path] = _other_table(path, edit, self.name)
            else:
                path = root / edit["file"]
                if not path.is_file():
                    raise DoesNotApplyError(f"{self.name}: there is no {edit['file']}.")
                content = new.get(path) or path.read_bytes()
                new[path] = _other_text(path, content.decode(), edit, self.name).encode()
        if self.checksums:
            _vouch(root, new)
        return new

    def apply(self, root: Path) -> None:
        """Change a checkout."""
        for path, content in self.changes(root).items():
            path.write_bytes(content)


def _once(where: str, text: str, edit: dict, name: str) -> str:
    count = text.count(edit["old"])
    if count != 1 or edit["old"] == edit["new"]:
        raise DoesNotApplyError(f"{name}: {where} has {count} times, not once: {edit['old']!r}")
    return text.replace(edit["old"], edit["new"])


def _other_text(path: Path, text: str, edit: dict, name: str) -> str:
    if path.suffix != ".ipynb":
        return _once(edit["file"], text, edit, name)
    notebook = json.loads(text)
    sources = ["".join(cell["source"]) for cell in notebook["cells"]]
    # One text, so that what stands in two cells is seen to be there twice.
    changed = _once(edit["file"], "\0".join(sources), edit, name).split("\0")
    for cell, source in zip(notebook["cells"], changed, strict=True):
        cell["source"] = source.splitlines(keepends=True)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def _other_table(path: Path, edit: dict, name: str) -> bytes:
    import io

    import pandas as pd

    table = pd.read_parquet(path)
    row, column = edit["row"], edit["column"]
    if table.loc[row, column] == edit["value"]:
        raise DoesNotApplyError(f"{name}: row {row} of {path.name} has this {column} already.")
    table.loc[row, column] = edit["value"]
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _vouch(root: Path, new: dict[Path, bytes]) -> None:
    """Change checksums with what they are of."""
    for path in [path for path in new if path.suffix == ".parquet"]:
        sidecar = path.with_suffix(".json")
        about = new.get(sidecar) or sidecar.read_bytes()
        digest = hashlib.sha256(new[path]).hexdigest()
        new[sidecar] = re.sub(rb'(?<="sha256": ")\w+', digest.encode(), about, count=1)
    sums = root / "data" / "SHA256SUMS"
    if sums.exists():
        text = sums.read_text(encoding="utf-8")
        for path, content in new.items():
            digest = hashlib.sha256(content).hexdigest()
            text = re.sub(rf"^\w+(?=[ *]+{re.escape(path.name)}$)", digest, text, flags=re.M)
        new[sums] = text.encode()


def read_mutants(folder: Path = HERE) -> list[Mutant]:
    """Return all mutants, by class and in the order of their files."""
    mutants = []
    for path in sorted(folder.glob("*.toml")):
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        for entry in content["mutant"]:
            edits = [
                {
                    k: entry[k]
                    for k in ("file", "old", "new", "table", "row", "column", "value")
                    if k in entry
                }
            ]
            edits += entry.get("also", [])
            mutants.append(
                Mutant(
                    name=entry["name"],
                    kind=content["class"],
                    why=entry["why"],
                    first=entry["first"],
                    edits=tuple(edits),
                    checksums=entry.get("checksums", False),
                )
            )
    return mutants
