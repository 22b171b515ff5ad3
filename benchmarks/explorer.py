"""Time the explorer's computations in Node and in Chromium, and weigh its scripts.

    python benchmarks/explorer.py

Prints milliseconds, the median of nine runs after two: a path of 60 steps with its stable steps (a frame
has 16), 500 transitions of the centered and the non-centered form, the exact posterior, its contours
at a new weight; in Chromium also a move of the path's slider with all that is drawn anew, the frames in
a second of a path that is watched, and how long the instrument for a reader's own counts takes for
tables of 500 groups, from reading the table to the last picture, the median of three: a reader should
not wait for more than two seconds. And the size of the scripts, as a page loads them. Node and Chromium
are left out where they are not installed.
"""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from fieldguide.explorer import write_scripts

FOLDER = Path(__file__).resolve().parents[1] / "book" / "_static" / "explorer"
INSTRUMENTS = {"open", *(path.stem for path in FOLDER.glob("ui*.js"))}
SCRIPTS = sorted(path for path in FOLDER.glob("*.js") if path.stem not in INSTRUMENTS)
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")

TIMES = """(e) => {
  const counts = {successes: [30, 7, 2], trials: [117, 20, 2]};
  const xs = Array.from({length: 60}, (_, i) => -4 + i / 7.5);
  const ys = Array.from({length: 60}, (_, i) => -5 + i / 8);
  const posterior = e.exact(e.posterior({...counts, form: "centered"}));
  const rows = e.rowsAt(posterior, ys);
  const set = (form) => {
    const model = e.posterior({...counts, form});
    const {mean, sd} = e.moments(posterior, model);
    return {target: (q, g) => e.logDensity(model, q, g), q: mean, scale: sd};
  };
  const run = (form) => {
    const {target, q, scale} = set(form);
    return () => e.sample(target, q, {step: 0.25, scale}, e.seeded(1), 500);
  };
  const {target, q, scale} = set("centered");
  const from = e.stateAt(target, q, e.newMomentum(scale, e.seeded(2)));
  const tasks = {
    "a path": () => e.path(target, from, {step: 0.05, scale, steps: 60})
      .states.map((one) => e.longestStableStep(target, one.q, scale)),
    "500 centered": run("centered"),
    "500 non-centered": run("non-centered"),
    "exact posterior": () => e.exact(e.posterior({...counts, form: "centered"})),
    "contours": () => {
      const grid = e.jointDensity(posterior, e.posterior({...counts, weight: 0.4}), 0, xs, rows);
      return e.levels(grid, [0.5, 0.9]).map((level) => e.contours(xs, ys, grid, level));
    },
  };
  return Object.entries(tasks).map(([name, task]) => {
    const times = Array.from({length: 11}, () => {
      const start = performance.now();
      task();
      return performance.now() - start;
    });
    return [name, times.slice(2).sort((a, b) => a - b)[4]];
  });
}"""


PAGE = """<!doctype html><title>Explorer</title>
<div class="explorer" data-instrument="{name}" data-title="{name}" data-own></div>
<script defer src="open.js"></script>"""

MOVES = """async () => {
  const next = () => new Promise(requestAnimationFrame);
  const slider = [...document.querySelectorAll(".fx-slider")].find((one) =>
    one.textContent.includes("Step size")).querySelector("input");
  const button = (words) => [...document.querySelectorAll("button")].find((one) =>
    one.textContent.includes(words));
  const moves = [];
  for (let k = 0; k < 120; k++) {
    slider.value = -3 + 0.02 * k;
    const start = performance.now();
    slider.dispatchEvent(new Event("input"));
    moves.push(performance.now() - start);
    await next();
  }
  button("Watch").click();
  await next();
  const begun = performance.now();
  for (let k = 0; k < 60; k++) await next();
  const frames = 60000 / (performance.now() - begun);
  const start = performance.now();
  button("Run 500").click();
  const run = performance.now() - start;
  moves.sort((a, b) => a - b);
  return {frames, results: [["a move, drawn", moves[60]], ["slowest of 120", moves[119]],
    ["run 500, drawn", run]]};
}"""

ANSWER = """(text) => new Promise((done) => {
  const {counts} = fieldguideExplorer, read = counts.readCounts;
  const box = document.querySelector("textarea");
  let start = 0;
  counts.readCounts = (...given) => {
    start ||= performance.now();
    return read(...given);
  };
  const drawn = () => document.querySelector(".fx-title").textContent.includes("in 500 groups")
    && !document.querySelector(".fx-last").textContent;
  const look = () => (start && drawn() ? done(performance.now() - start) : requestAnimationFrame(look));
  box.value = text;
  box.dispatchEvent(new InputEvent("input", {inputType: "insertFromPaste"}));
  look();
})"""


def tables() -> dict[str, str]:
    """Return tables of 500 groups as CSV: groups of different sizes, of a few trials, of many."""
    rng = np.random.default_rng(500)
    sizes = {
        "few trials": rng.integers(1, 20, 500),
        "mixed": np.exp(rng.uniform(0, np.log(2000), 500)).astype(int),
        "many trials": rng.integers(20_000, 100_000, 500),
    }
    made = {}
    for name, n in sizes.items():
        y = rng.binomial(n, 1 / (1 + np.exp(-rng.normal(-1, 0.8, 500))))
        rows = [f"g{j},{a},{b}" for j, (a, b) in enumerate(zip(y, n, strict=True))]
        made[f"500, {name}"] = "\n".join(["group,successes,trials", *rows])
    return made


def in_node(node: str) -> list:
    """Return names and milliseconds, in Node."""
    paths = json.dumps([str(path) for path in SCRIPTS])
    program = f"{paths}.forEach((path) => require(path));"
    program += f"console.log(JSON.stringify(({TIMES})(fieldguideExplorer)));"
    done = subprocess.run([node, "-e", program], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def in_browser(path: str) -> list:
    """Return names and milliseconds, in a page that is opened from a file."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        shutil.copytree(FOLDER, folder, dirs_exist_ok=True)
        write_scripts(Path(folder))
        page = Path(folder) / "page.html"
        page.write_text("".join(f'<script src="{script.name}"></script>' for script in SCRIPTS))
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        tab = browser.new_page()
        tab.goto(page.as_uri())
        times = tab.evaluate(f"() => ({TIMES})(fieldguideExplorer)")
        page = Path(folder) / "path.html"
        page.write_text(PAGE.format(name="path"))
        tab.goto(page.as_uri() + "#steps=60")
        tab.wait_for_selector("[data-opened]")
        moved = tab.evaluate(MOVES)
        times += moved["results"]
        print(f"Chromium  a path is watched at {moved['frames']:.0f} frames a second")
        page = Path(folder) / "counts.html"
        page.write_text(PAGE.format(name="counts"))
        for name, text in tables().items():
            taken = []
            for _ in range(3):
                tab.goto("about:blank")
                tab.goto(page.as_uri())
                tab.wait_for_selector("[data-opened]")
                taken.append(tab.evaluate(ANSWER, text))
            times.append([name, sorted(taken)[1]])
        browser.close()
    return times


def main() -> None:
    """Print times and sizes."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(FOLDER, folder, dirs_exist_ok=True)
        write_scripts(Path(folder))
        scripts = sorted(Path(folder).glob("*.js"))
        sizes = {path.name: len(gzip.compress(path.read_bytes(), 9)) for path in scripts}
    for name, size in sizes.items():
        print(f"{name:<20}{size:>8} bytes compressed")
    print(f"{'all':<20}{sum(sizes.values()):>8} bytes compressed")
    node, browser = shutil.which("node"), next(filter(None, map(shutil.which, BROWSERS)), None)
    for place, times in (
        ("Node", in_node(node) if node else []),
        ("Chromium", in_browser(browser) if browser else []),
    ):
        for name, milliseconds in times:
            print(f"{place:<10}{name:<20}{milliseconds:>8.1f} ms")


if __name__ == "__main__":
    main()
