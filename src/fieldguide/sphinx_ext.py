"""What the book's build needs beyond Jupyter Book: parallel runs, figures with words, strict alt text.

- Notebooks are executed in parallel before Sphinx reads them, into a cache whose name depends on
  everything their results depend on (the package, the data, the lock), not only on their cells.
- Figures and tables shown with :mod:`fieldguide.page` become numbered Sphinx figures and tables.
- An image without alternative text fails the build.
- Slides are made of the written pages (``fieldguide.slides``).
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import textwrap
import threading
from binascii import a2b_base64
from collections.abc import Callable, Iterator, Sequence
from html import escape
from itertools import groupby
from os.path import relpath
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unicodedata import normalize

from docutils import nodes
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from myst_nb.sphinx_ import NbMetadataCollector
from pybtex.database import Entry
from pybtex.plugin import register_plugin
from pybtex.style.formatting.plain import Style as PlainStyle
from pybtex.style.labels import BaseLabelStyle
from pybtex.style.sorting import BaseSortingStyle
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.errors import SphinxError
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx_external_toc.parsing import parse_toc_yaml
from tqdm import tqdm

from fieldguide.claims import FalseClaimError, typeset
from fieldguide.execution import Run, run_in_parallel
from fieldguide.explorer import INSTRUMENTS, write_scripts
from fieldguide.html import BRANCH, about, finish_site, repository_address, site_address, sitemap
from fieldguide.kernel import PARENT, stop_with
from fieldguide.outputs import CLAIMS_MIME, FIGURE_MIME, TABLE_MIME
from fieldguide.paper import link_editions
from fieldguide.slides import FOLDER, SlideError, read_deck, sources, write_decks

logger = logging.getLogger(__name__)

RESULTS_DEPEND_ON = ("src/**/*.py", "data/*.csv", "data/*.json", "data/*.parquet", "uv.lock")
BUT_NOT_ON = (
    "sphinx_ext.py",
    "html.py",
    "mathml.py",
    "sheets.py",
    "execution.py",
    "kernel.py",
    "preload.py",
    "build.py",
    "paper.py",
    "slides.py",
    "dictionary.py",
    "explorer.py",
    "__main__.py",
)
"""Modules that run notebooks and lay out what they show, or are for the command line only."""

BOXES = {"Predict before you look.": "prediction", "The verdict.": "finding"}
"""How a paragraph begins that is set apart, and as what."""

GOAL = "After this chapter"
"""How the sentence begins that says what a chapter teaches."""

BUILT = "when this page was built."

SHORTEST_ALT = 15
WORDS_PER_MINUTE = 200  # of prose that is not skimmed
ANY_REPOSITORY = "https://github.com/OWNER/NAME"  # so written in a page
CARD = "card.png"  # what messengers show beside a link
LONGEST_DESCRIPTION = 160  # letters that a search engine shows


def digest_of_inputs(root: Path) -> str:
    """Return a digest of all files that a notebook's results depend on besides its own cells."""
    digest = hashlib.sha256()
    for pattern in RESULTS_DEPEND_ON:
        for path in sorted(p for p in root.glob(pattern) if p.is_file() and p.name not in BUT_NOT_ON):
            digest.update(path.relative_to(root).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def execution_cache(root: Path) -> Path:
    """Return the folder of the notebooks executed with the present package, data and lock."""
    return root / "_build" / "executed" / digest_of_inputs(root)


def pages_of_toc(root: Path) -> list[str]:
    """Return the pages of the table of contents, in reading order, without suffix."""
    return [str(page) for page in parse_toc_yaml(root / "_toc.yml")]


def place_in_book(root: Path, page: str) -> str:
    """Return where in its part a page stands: ``The case study, 3 of 6.``; empty if in none."""
    for part in parse_toc_yaml(root / "_toc.yml").root.subtrees:
        pages = [str(one) for one in part.items]
        if page in pages and part.caption:
            return f"{part.caption}, {pages.index(page) + 1} of {len(pages)}."
    return ""


class ChaptersFailedError(SphinxError):
    """Chapters did not run through; the message says where, why and what to do."""

    category = "The book was not built"


def run_notebooks(app: Sphinx, config: Any) -> None:
    """Execute every notebook that is not in the cache, in parallel, before Sphinx reads them.

    Raises
    ------
    ChaptersFailedError
        If one does not run through. The others are kept, so that only it runs again.
    """
    root = Path(app.srcdir)
    folder = execution_cache(root)
    config.nb_execution_cache_path = str(folder)
    remove_old_caches(folder)
    cache = get_cache(str(folder))
    chapters = [path for page in pages_of_toc(root) if (path := root / f"{page}.ipynb").is_file()]
    pending = [path for path in chapters if _missing(cache, str(path))]
    if not pending:
        return
    find_home_for_caches(root)
    failed: list[Run] = []
    tqdm.set_lock(threading.RLock())  # its own would be shared with processes, and left behind
    with tqdm(
        total=len(pending), desc="chapters", file=sys.stdout, disable=None, dynamic_ncols=True
    ) as bar:

        def ended(run: Run) -> None:
            if run.failure is None:
                bundle = CacheBundleIn(run.notebook, run.path, data={"execution_seconds": run.seconds})
                cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
            else:
                failed.append(run)
            count[0] += 1
            verb = "ran" if run.failure is None else "stopped in"
            line = f"{verb} {run.path.stem}, {run.seconds:.0f} s, {count[0]} of {len(pending)}"
            tqdm.write(line, file=sys.stdout)
            sys.stdout.flush()
            bar.update()

        count = [0]
        largest_first = sorted(pending, key=lambda path: -path.stat().st_size)  # they take longest
        run_in_parallel(largest_first, config.nb_execution_timeout, ended)
    if failed:
        raise ChaptersFailedError("\n\n".join(_describe(run, root) for run in failed))


def _describe(run: Run, root: Path) -> str:
    """Return the block that tells where a chapter stopped, why, and what to do."""
    failure = run.failure
    assert failure is not None
    log = root / "_build" / "failed" / f"{run.path.stem}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(failure.traceback + "\n", encoding="utf-8")
    name, _, message = failure.error.partition(": ")
    if name == FalseClaimError.__name__:
        what, remedy = (
            "claim",
            (
                "what the page computes contradicts the sentence. Mend whichever is wrong: the "
                "computation, or the sentence and its check."
            ),
        )
    elif name == "stderr":
        what, remedy = (
            "warning",
            (
                "something wrote to stderr that the page does not want to show. Remove its cause, or "
                'show it: cell metadata {"mystnb": {"output_stderr": "show"}}.'
            ),
        )
    else:
        what, message = "error", failure.error
        remedy = "run the notebook down to this cell (make lab), mend it, and build again."
    lines = [
        ("chapter", run.path.relative_to(root).as_posix()),
        ("cell", f"{failure.cell} of {failure.cells}"),
        (what, message),
        ("what to do", remedy),
        ("in full", log.relative_to(root).as_posix()),
    ]
    return "\n".join(
        textwrap.fill(f"{label:<11} {words}", 100, subsequent_indent=" " * 12) for label, words in lines
    )


def find_home_for_caches(root: Path) -> None:
    """Set HOME to a folder of the build if nothing can be written to it, as make does.

    PyTensor, Matplotlib and Jupyter keep files there and stop, or warn, where they cannot.
    """
    try:
        with TemporaryDirectory(dir=Path.home()):
            return
    except OSError:
        home = root / "_build" / "home"
        home.mkdir(parents=True, exist_ok=True)
        print(f"{Path.home()} cannot be written to: caches go to {home}", flush=True)
        os.environ["HOME"] = str(home)


def remove_old_caches(folder: Path) -> None:
    """Delete the executed notebooks of all builds but the present one and the one before it."""
    folder.mkdir(parents=True, exist_ok=True)
    os.utime(folder)
    caches = sorted(filter(Path.is_dir, folder.parent.iterdir()), key=lambda path: path.stat().st_mtime)
    for old in caches[:-2]:
        shutil.rmtree(old, ignore_errors=True)


def _missing(cache: Any, uri: str) -> bool:
    try:
        cache.match_cache_file(uri)
    except KeyError:
        return True
    return False


class PageOutput:
    """Turn figures and tables of :mod:`fieldguide.page` into numbered nodes with caption and alt."""

    mime_priority_overrides = (("*", FIGURE_MIME, 1), ("*", TABLE_MIME, 1))

    @staticmethod
    def handle_mime(renderer, data, inline):
        """Return the nodes for one output, or None where it is not one of ours."""
        if inline or data.mime_type not in (FIGURE_MIME, TABLE_MIME):
            return None
        make = _figure_node if data.mime_type == FIGURE_MIME else _table_node
        node = make(renderer, data.content)
        node["classes"].append("fieldguide")
        node["names"].append(data.content["name"])
        renderer.renderer.document.note_explicit_target(node)
        return [node]


def _figure_node(renderer: Any, content: dict) -> nodes.figure:
    def write(svg: str) -> str:
        name = f"{hashlib.sha256(svg.encode()).hexdigest()[:20]}.svg"
        return renderer.write_file([name], svg.encode(), overwrite=False, exists_ok=True)

    return _figure(content, write)


def _figure(content: dict, write: Callable[[str], str]) -> nodes.figure:
    """Return a figure with its two drawings, of which `fieldguide.html` makes one picture."""
    figure = nodes.figure()
    for kind in ("wide", "narrow"):
        drawing = content[kind]
        width, height = (f"{drawing[side]}px" for side in ("width", "height"))
        uri = write(drawing["svg"])
        figure += nodes.image(
            uri=uri, alt=content["alt"], width=width, height=height, classes=[kind, "dark-light"]
        )
    figure += nodes.caption("", "", *_in_ink(content["caption"]))
    return figure


def _in_ink(caption: str) -> Iterator[nodes.Node]:
    """Yield the words of a caption; what is drawn in black is drawn in white on a dark page."""
    for words in re.split(r"\b([Bb]lack)\b", caption):
        if words.lower() == "black":
            white = "White" if words[0] == "B" else "white"
            yield nodes.inline(text=words, classes=["in-the-light"])
            yield nodes.inline(text=white, classes=["in-the-dark"])
        elif words:
            yield nodes.Text(words)


def _table_node(renderer: Any, content: dict) -> nodes.table:
    columns, rows = content["columns"], content["rows"]
    kinds = [column_kind([row[k] for row in rows]) for k in range(len(columns))]
    bad = {tuple(place) for place in content.get("bad", [])}
    group = nodes.tgroup(cols=len(columns))
    group += [nodes.colspec(colwidth=1) for _ in columns]
    group += nodes.thead("", _row(columns, [[kind] for kind in kinds]))
    body = nodes.tbody()
    for r, row in enumerate(rows):
        body += _row(row, [[kind, "bad"] if (r, c) in bad else [kind] for c, kind in enumerate(kinds)])
    group += body
    return nodes.table("", nodes.title(text=content["caption"]), group)


def column_kind(cells: Sequence[str]) -> str:
    """Return what a table's column holds: ``"words"``, or ``"figures"``, which are set to the right.

    >>> column_kind(["0.2", "12 s", "0.10 (0.02 to 0.31)", "–"]), column_kind(["0.2", "not singular"])
    ('figures', 'words')
    """
    return "words" if any(re.search(r"[^\W\d_]{3}", cell) for cell in cells) else "figures"


def _row(cells: list[str], classes: list[list[str]]) -> nodes.row:
    entries = (
        nodes.entry("", nodes.paragraph(text=cell), classes=kinds)
        for cell, kinds in zip(cells, classes, strict=True)
    )
    return nodes.row("", *entries)


class FigureFrom(SphinxDirective):
    """Repeat a figure of a notebook on another page: ``{figure-from} notebook figure-name``."""

    required_arguments = 2

    def run(self) -> list[nodes.Node]:
        """Return the figure, with the caption and the alternative text it has in the notebook."""
        return [repeated_figure(self, *self.arguments)]


def repeated_figure(directive: SphinxDirective, notebook: str, name: str) -> nodes.figure:
    """Return a figure of a notebook, for another page, with its caption and alternative text."""
    folder = Path(directive.config.nb_execution_cache_path)

    def write(svg: str) -> str:
        path = folder / f"{hashlib.sha256(svg.encode()).hexdigest()[:20]}.svg"
        path.write_text(svg, encoding="utf-8")
        return f"/{path.relative_to(directive.env.srcdir).as_posix()}"

    for content in shown_by(directive, notebook, FIGURE_MIME):
        if content["name"] == name:
            figure = _figure(content, write)
            figure["classes"].append("fieldguide")
            if content["card"]:
                (folder / CARD).write_bytes(a2b_base64(content["card"]))
            return figure
    raise directive.error(f"{notebook} shows no figure named {name}")


class Explorer(SphinxDirective):
    """An instrument of the explorer on its own page, ``{explorer} path``; a figure until it opens."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the instrument's place, which holds the figure."""
        (name,) = self.arguments
        if name not in INSTRUMENTS:
            raise self.error(f"there is no instrument {name}; there are {', '.join(INSTRUMENTS)}")
        return [
            _html(f"<div {_instrument(name)} data-own><div class='explorer-still'>"),
            repeated_figure(self, *INSTRUMENTS[name].still),
            _html("</div></div>"),
        ]


def _html(text: str) -> nodes.raw:
    return nodes.raw("", text, format="html")


def _instrument(name: str, state: str = "") -> str:
    words = f'class="explorer" data-instrument="{name}" data-title="{INSTRUMENTS[name].title}"'
    return words + (f' data-state="{escape(state)}"' if state else "")


def open_instruments(app: Sphinx, doctree: nodes.document) -> None:
    """Let a paragraph that links to an instrument open it there, in the state of the link's title."""
    for link in list(doctree.findall(addnodes.pending_xref)):
        name = str(link.get("reftarget", "")).rpartition("/")[2].removesuffix(".md")
        if "explorer/" not in link.get("reftarget", "") or name not in INSTRUMENTS:
            continue
        around = link.parent
        if not isinstance(around, nodes.paragraph) or len(around.children) > 1:
            continue
        place = around.parent.index(around)
        state = str(link.attributes.pop("title", ""))
        around.parent.insert(place, _html(f"<div {_instrument(name, state)}>"))
        door = '<button type="button" hidden>Open it here</button></div>'
        around.parent.insert(place + 2, _html(door))


def load_explorer(
    app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None
) -> None:
    """Let the pages that have an instrument, and no others, load the script that opens it."""
    if 'class="explorer"' in context.get("body", ""):
        app.add_js_file("explorer/open.js", loading_method="defer")


class ScriptPart(SphinxDirective):
    """Show a part of a script with its versions: ``{script-part} r_dictionary.R trial_brms``."""

    required_arguments = 2

    def run(self) -> list[nodes.Node]:
        """Return the code and the sentence below it, as chapters show them."""
        # A build in which this page is not read again does not wait for these.
        from fieldguide.data import DATA_FOLDER, DataError
        from fieldguide.scripts import script_part

        script, part = self.arguments
        for name in (script, f"{Path(script).stem}.json"):
            self.env.note_dependency(str(DATA_FOLDER / name))
        try:
            shown = script_part(script, part)
        except DataError as error:
            raise self.error(str(error)) from None
        return [nodes.container("", *self.parse_text_to_nodes(shown), classes=["script"])]


class DictionaryTable(SphinxDirective):
    """Show the dictionary's table of means of a model: ``{dictionary-table} districts``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the table; an answer that differs between tools stops the build."""
        from fieldguide.data import DATA_FOLDER
        from fieldguide.dictionary import table

        for name in ("dictionary.json", "r_dictionary.json"):
            self.env.note_dependency(str(DATA_FOLDER / name))
        try:
            content = table(self.arguments[0])
        except ValueError as error:
            raise self.error(str(error)) from None
        node = _table_node(None, content)
        node["classes"].append("fieldguide")
        node["names"].append(content["name"])
        self.state.document.note_explicit_target(node)
        return [node]


class Findings(SphinxDirective):
    """List chapters, each with one of its claims as that was computed by this build.

    A line of the content names a page and words of the claim:
    ``notebooks/03_centered: The centered form diverged``. Claims of one chapter stand together.
    """

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return the list: the title of each chapter with its link, and the sentences."""
        found = nodes.definition_list(classes=["findings"])
        lines = [line.partition(": ") for line in filter(None, map(str.strip, self.content))]
        for page, several in groupby(lines, key=lambda line: line[0]):
            claims = [one for many in shown_by(self, f"{page}.ipynb", CLAIMS_MIME) for one in many]
            said = nodes.definition()
            for *_, words in several:
                sentence = next((one for one in claims if words in one), None)
                if sentence is None:
                    raise self.error(f"{page} claims nothing with the words {words!r}")
                said += nodes.paragraph(text=sentence)
            term = nodes.term("", "", link_to(page, self.env.docname))
            found += nodes.definition_list_item("", term, said)
        return [found]


def author_and_year(entry: Entry) -> str:
    """Return how the pages cite a work: "Neal, 2003", "Talts and others, 2018"."""
    names = [" ".join(map(str, person.rich_last_names)) for person in entry.persons["author"]]
    if len(names) > 3:
        names = [names[0], "others"]
    return f"{', '.join(names[:-1])}{' and ' if names[1:] else ''}{names[-1]}, {entry.fields['year']}"


class AuthorYearLabels(BaseLabelStyle):
    """Labels of the bibliography that a reader of the pages looks for."""

    def format_labels(self, sorted_entries: list[Entry]) -> Iterator[str]:
        """Yield the label of each work."""
        yield from map(author_and_year, sorted_entries)


class AuthorYearSorting(BaseSortingStyle):
    """The order of these labels."""

    def sorting_key(self, entry: Entry) -> str:
        """Return what is compared; letters with accents stand with those without."""
        return normalize("NFKD", author_and_year(entry)).casefold()


class AuthorYearStyle(PlainStyle):
    """The plain style of a bibliography, with these labels instead of numbers."""

    default_label_style = AuthorYearLabels
    default_sorting_style = AuthorYearSorting


class Editions(SphinxDirective):
    """Say where the book is to be had as PDF and ePub; :mod:`fieldguide.paper` fills the line in."""

    def run(self) -> list[nodes.Node]:
        """Return the line's place."""
        return [nodes.raw("", '<div class="editions"></div>', format="html")]


def shown_by(directive: SphinxDirective, notebook: str, mime: str) -> Iterator[Any]:
    """Yield what an executed notebook shows of one kind, such as its figures."""
    path = str(Path(directive.env.srcdir) / notebook)
    directive.env.note_dependency(path)
    cache = get_cache(str(directive.config.nb_execution_cache_path))
    for cell in cache.get_cache_bundle(cache.match_cache_file(path).pk).nb.cells:
        for output in cell.get("outputs", []):
            if mime in output.get("data", {}):
                yield output["data"][mime]


def link_to(page: str, here: str) -> nodes.Node:
    """Return a link from one page to another, with its title."""
    return addnodes.pending_xref(
        "",
        nodes.inline(text=page),
        refdomain="std",
        reftype="doc",
        reftarget=f"/{page}",
        refexplicit=False,
        refwarn=True,
        refdoc=here,
    )


class Decks(SphinxDirective):
    """List the decks of slides, each with its chapter and the number of its slides."""

    def run(self) -> list[nodes.Node]:
        """Return the list: the title of each deck with its link, and what it is for."""
        here = self.env.docname
        listed = nodes.definition_list(classes=["findings", "decks"])
        for path in sources(Path(self.env.srcdir)):
            self.env.note_dependency(str(path))
            try:
                deck = read_deck(path)
            except SlideError as error:
                raise self.error(f"{path.name}: {error}") from None
            deck_file = relpath(f"{FOLDER}/{path.stem}.html", os.path.dirname(here))
            link = nodes.reference("", deck.title, refuri=deck_file)
            said = nodes.paragraph("", "", nodes.Text(f"{len(deck.slides)} slides for "))
            said += [link_to(deck.chapter, here), nodes.Text(".")]
            term = nodes.term("", "", nodes.inline("", "", link))
            listed += nodes.definition_list_item("", term, nodes.definition("", said))
        return [listed]


class Chapters(SphinxDirective):
    """List all chapters with what they teach, how long they take, and how many exercises they have."""

    def run(self) -> list[nodes.Node]:
        """Return a place for the list, which is written when all chapters are read."""
        return [chapters_here()]


class chapters_here(nodes.General, nodes.Element):
    """Where `list_chapters` writes the list."""


def list_chapters(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Write the list that `Chapters` asked for."""
    for here in list(doctree.findall(chapters_here)):
        listed = nodes.definition_list(classes=["findings"])
        for chapter in pages_of_toc(Path(app.srcdir)):
            about_it = _about_chapter(app, chapter)
            if about_it is None:
                continue
            title, goal, time, exercises = about_it
            link = nodes.reference("", title, refuri=app.builder.get_relative_uri(page, chapter))
            count = f"{exercises} exercise{'s' if exercises != 1 else ''}"
            took = time.removesuffix(BUILT).strip()
            said = nodes.paragraph(text=f"{took}. {count}.", classes=["running-time"])
            term = nodes.term("", "", nodes.inline("", "", link))
            listed += nodes.definition_list_item(
                "", term, nodes.definition("", nodes.paragraph(text=goal), said)
            )
        here.replace_self(listed)


def _about_chapter(app: Sphinx, chapter: str) -> tuple[str, str, str, int] | None:
    """Return title, goal and times of a chapter, and how many exercises it has."""
    doctree = app.env.get_doctree(chapter)
    words = [paragraph.astext() for paragraph in doctree.findall(nodes.paragraph)]
    goal = next((text for text in words if text.startswith(GOAL)), None)
    time = next((text for text in words if text.endswith(BUILT)), "")
    if goal is None:
        return None
    goal = goal.partition("Read first:")[0].removeprefix(GOAL).strip()
    exercises = sum(
        len([part for part in section if isinstance(part, nodes.section)])
        for section in doctree.findall(nodes.section)
        if section[0].astext() == "Exercises"
    )
    return app.env.titles[chapter].astext(), goal[0].upper() + goal[1:], time, exercises


def box_predictions_and_findings(app: Sphinx, doctree: nodes.document) -> None:
    """Set what the reader is asked to predict, and what was found, apart from the text."""
    for paragraph in list(doctree.findall(nodes.paragraph)):
        first = next((child for child in paragraph if child.astext()), None)
        kind = BOXES.get(first.astext()) if isinstance(first, nodes.strong) else None
        if kind:
            box = nodes.container(classes=[kind])
            paragraph.replace_self(box)
            box += paragraph


def typeset_numbers(app: Sphinx, doctree: nodes.document) -> None:
    """Write the numbers of sentences and tables as they are printed; code stays as it is."""
    for text in list(doctree.findall(nodes.Text)):
        written = typeset(text.astext())
        if written != text.astext() and not _is_code(text.parent):
            text.parent.replace(text, nodes.Text(written))


def _is_code(node: nodes.Element | None) -> bool:
    code = (nodes.literal, nodes.literal_block, nodes.math, nodes.math_block, nodes.raw, addnodes.desc)
    return node is not None and (isinstance(node, code) or _is_code(node.parent))


def join_folded_code(app: Sphinx, doctree: nodes.document) -> None:
    """Put a folded cell that shows nothing into the fold that follows it."""
    for cell in list(doctree.findall(_is_folded)):
        place = cell.parent.index(cell)
        before = cell.parent[place - 1] if place else None
        if before is not None and _is_folded(before) and len(before) == 1:
            cell[0][:0] = before[0].children
            cell.parent.remove(before)


def _is_folded(node: nodes.Node) -> bool:
    return (
        isinstance(node, nodes.container)
        and "tag_hide-input" in node["classes"]
        and len(node) > 0
        and "cell_input" in node[0].get("classes", [])
    )


def check_alternative_text(app: Sphinx, doctree: nodes.document) -> None:
    """Warn (an error under ``-W``) about each image that a listener would not understand."""
    for image in doctree.findall(nodes.image):
        alt = image.get("alt", "")
        if len(alt) < SHORTEST_ALT or alt.endswith((".png", ".svg", ".jpg")):
            logger.warning(
                "image without alternative text (at least %d characters that say what it shows): "
                "show figures with fieldguide.page.show_figure",
                SHORTEST_ALT,
                location=(app.env.docname, image.line),
                type="fieldguide",
                subtype="alt",
            )


def say_running_time(app: Sphinx, doctree: nodes.document) -> None:
    """Write under a chapter's title how long it takes to read, and took to run."""
    executed = NbMetadataCollector.get_exec_data(app.env, app.env.docname)
    title = doctree.next_node(nodes.title)
    if not executed or executed.get("runtime") is None or title is None:
        return
    seconds = executed["runtime"]
    words = sum(len(paragraph.astext().split()) for paragraph in doctree.findall(nodes.paragraph))
    minutes = max(1, round(words / WORDS_PER_MINUTE))
    text = (
        f"{place_in_book(Path(app.srcdir), app.env.docname)} "
        f"{minutes} minute{'s' if minutes > 1 else ''} to read; the notebook ran in {seconds:.0f} "
        f"seconds {BUILT}"
    )
    title.parent.insert(1, nodes.paragraph(text=text, classes=["running-time"]))


def words_in_docstrings(app: Sphinx, env: Any, node: Any, text: nodes.Node) -> nodes.Node | None:
    """Leave words where a docstring's type or its single backticks name nothing that has an entry.

    Types are words for people ("array_like, shape (district,)") and single backticks name parameters
    as well. A role that is written out, such as :mod:`fieldguide.page`, must lead somewhere.
    """
    if node.get("refdomain") == "py" and (node["reftype"] == "obj" or node.get("refspecific")):
        return text
    return None


def drop_thebe(
    app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None
) -> None:
    """Remove the scripts of thebe, which Jupyter Book adds and which load from another host."""
    context["script_files"] = [
        script
        for script in context["script_files"]
        if "thebe" not in f"{script.filename} {script.attributes.get('body', '')}".lower()
    ]


def find_address(app: Sphinx, config: Any) -> None:
    """Tell Sphinx where the site is read and where the repository is, where that is known.

    From the first it writes the canonical links, from the second the theme writes launch buttons.
    """
    root = Path(app.srcdir)
    config.html_baseurl = config.html_baseurl or site_address(root)
    config.fieldguide_repository = repository_address(root)
    if config.fieldguide_repository:
        config.html_theme_options["repository_url"] = config.fieldguide_repository
        config.html_theme_options["repository_branch"] = BRANCH
    else:
        config.html_theme_options.pop("launch_buttons", None)


def fill_address(app: Sphinx, page: str, source: list[str]) -> None:
    """Write the repository's address where a page says how to install the package from it."""
    if app.config.fieldguide_repository:
        source[0] = source[0].replace(f"git+{ANY_REPOSITORY}", f"git+{app.config.fieldguide_repository}")


def ask_for_the_doi(app: Sphinx, uri: str) -> str | None:
    """Let linkcheck ask whether a DOI exists; publishers turn programs away from where it leads."""
    name = uri.removeprefix("https://doi.org/")
    return f"https://doi.org/api/handles/{name}" if name != uri else None


def describe_page(
    app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None
) -> None:
    """Write into a page's head what search engines and messengers show of it: its first sentences."""
    if doctree is None:
        return
    paragraphs = (
        paragraph.astext()
        for paragraph in doctree.findall(nodes.paragraph)
        if "running-time" not in paragraph["classes"]
    )
    description = textwrap.shorten(" ".join(paragraphs), LONGEST_DESCRIPTION, placeholder=" …")
    context["metatags"] += about(
        context["title"], description, f"{pagename}.html", app.config.html_baseurl, f"_static/{CARD}"
    )


def finish_pages(app: Sphinx, exception: Exception | None) -> None:
    """Mend the pages when all of them are written."""
    if exception is None and app.builder.format == "html":
        finish_site(Path(app.outdir))
        write_scripts(Path(app.outdir) / "_static" / "explorer")
        card = Path(app.config.nb_execution_cache_path) / CARD
        if card.is_file():
            shutil.copyfile(card, Path(app.outdir) / "_static" / CARD)
        for fault in write_decks(Path(app.srcdir), Path(app.outdir), app.config.html_baseurl):
            logger.warning(fault.words, location=fault.place, type="fieldguide", subtype="slides")
        link_editions(Path(app.srcdir), Path(app.outdir))
        if app.config.html_baseurl:
            pages = [f"{page}.html" for page in pages_of_toc(Path(app.srcdir))]
            listed = sitemap(pages, app.config.html_baseurl)
            (Path(app.outdir) / "sitemap.xml").write_text(listed, encoding="utf-8")


def let_pages_be_read_in_parallel(app: Sphinx) -> None:
    """Declare for an extension what it does not: it does nothing while a page is read."""
    numbering = app.extensions.get("sphinx_multitoc_numbering")
    if numbering is not None and numbering.parallel_read_safe is None:
        numbering.parallel_read_safe = True


def setup(app: Sphinx) -> dict:
    """Register the parts above with Sphinx."""
    if PARENT in os.environ:
        stop_with(int(os.environ[PARENT]))
    register_plugin("pybtex.style.formatting", "author_year", AuthorYearStyle)
    app.add_directive("explorer", Explorer)
    app.add_directive("figure-from", FigureFrom)
    app.add_directive("findings", Findings)
    app.add_directive("script-part", ScriptPart)
    app.add_directive("dictionary-table", DictionaryTable)
    app.add_directive("chapters", Chapters)
    app.add_directive("decks", Decks)
    app.add_node(chapters_here)
    app.add_config_value("fieldguide_repository", "", "env", str)
    app.add_directive("editions", Editions)
    app.connect("config-inited", find_address)
    app.connect("source-read", fill_address)
    app.connect("linkcheck-process-uri", ask_for_the_doi)
    app.connect("config-inited", run_notebooks)
    app.connect("builder-inited", let_pages_be_read_in_parallel)
    app.connect("doctree-read", check_alternative_text)
    app.connect("doctree-read", open_instruments)
    app.connect("doctree-read", say_running_time)
    app.connect("doctree-read", box_predictions_and_findings)
    app.connect("doctree-read", join_folded_code)
    app.connect("doctree-read", typeset_numbers)
    app.connect("doctree-resolved", list_chapters)
    app.connect("missing-reference", words_in_docstrings)
    app.connect("html-page-context", drop_thebe, priority=900)
    app.connect("html-page-context", load_explorer)
    app.connect("html-page-context", describe_page)
    app.connect("build-finished", finish_pages, priority=900)  # the theme writes a sheet at the end
    return {"parallel_read_safe": True, "parallel_write_safe": True}
