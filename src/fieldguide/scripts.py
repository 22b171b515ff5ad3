"""Parts of the scripts in the data folder, as pages show them: word for word, with their versions."""

from __future__ import annotations

import re
from pathlib import Path

from fieldguide.data import DATA_FOLDER, DataError, quoted

LANGUAGES = {".R": "r", ".py": "python"}
"""What the scripts are written in, by suffix, as code is coloured."""

PART = re.compile(r"^# \[(\w+)(?:: ([^]]*))?\]\n(.*?)\n# \[end\]$", re.MULTILINE | re.DOTALL)


def script_part(name: str, part: str) -> str:
    """Return a part of a script as it stands there, with the versions that it was run with.

    Parameters
    ----------
    name : str
        A script in the project's data folder, such as ``"r_trial.R"``, whose figures are stored in a
        JSON file of the same name.
    part : str
        What stands between the lines ``# [part]`` and ``# [end]``; ``# [part: package]`` names a
        package that its code does not, and ``# [part: R]`` says that it needs none.

    Returns
    -------
    str
        In Markdown: the code, and below it a sentence.

    Raises
    ------
    DataError
        If there is no such script, or it has no such part.
    """
    path = DATA_FOLDER / name
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error}); restore it from the project.") from None
    parts = {part: (run_with, code) for part, run_with, code in PART.findall(text)}
    if part not in parts:
        raise DataError(f"{name} has no part {part!r}; its parts are {', '.join(sorted(parts))}.")
    run_with, code = parts[part]
    (language, version), *packages = quoted(Path(name).stem)["fits"]["versions"].items()
    named = run_with.split(", ")
    used = [
        f"{package} {of}"
        for package, of in packages
        if package in named or re.search(rf"\b{package}\b", code)
    ]
    with_what = f" with {', '.join(used or map(' '.join, packages[:1]))}" if run_with != language else ""
    said = f"From `data/{name}`, run{with_what} in {language} {version}."
    return f"```{LANGUAGES[path.suffix]}\n{code}\n```\n\n{said}"
