"""The command ``fieldguide``: what the book does, for a file of your own.

Every subcommand is a function that adds itself to the parser and one that runs it; see `SUBCOMMANDS`.
Exit status: 0 where all is well, 1 where trouble is expected, 2 where there is no answer, with one
sentence that says why.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    # before NumPy is imported: matrices are small, and threads would only get in the way
    os.environ.setdefault(_name, "1")

HEALTHY, TROUBLE, NO_ANSWER = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the process by default.

    Returns
    -------
    int
        Exit status: 0, 1 or 2 as the module's text says, 130 where interrupted.
    """
    parser = argparse.ArgumentParser(
        prog="fieldguide",
        description="What the book does, for a file of your own.",
        epilog="Exit status: 0 all is well, 1 trouble is expected, 2 there is no answer.",
    )
    jobs = parser.add_subparsers(dest="job", required=True, metavar="COMMAND")
    for add in SUBCOMMANDS:
        add(jobs)
    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read the output has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return HEALTHY
    except MemoryError:
        print("There is not enough memory for this file; take a part of it.", file=sys.stderr)
        return NO_ANSWER


def _say(sentence: Any) -> int:
    print(sentence, file=sys.stderr)
    return NO_ANSWER


# ---------------------------------------------------------------------------------------------
# fieldguide counts

_COUNTS = """Exact posterior of successes and trials per group, and how to sample it.

FILE is a CSV with one row per group: its name, its successes, and its trials or failures. Columns
with common names (successes and trials, y and n, events and n, ...) are recognised."""

_COUNTS_END = """examples:
  fieldguide counts wards.csv
  fieldguide counts wards.csv --successes cured --trials treated --html wards.html
  fieldguide counts people.csv --group ward --successes cured --add-up
  fieldguide counts wards.csv --code pymc > wards.py

exit status:
  0  healthy: centered and non-centered form should both sample well
  1  trouble expected of one form or both; the report says which, and why
  2  no answer: the file cannot be read as counts, and a sentence says why"""


def _add_counts(jobs: Any) -> None:
    parser = jobs.add_parser(
        "counts",
        help="exact posterior of successes and trials per group",
        description=_COUNTS,
        epilog=_COUNTS_END,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", help="a CSV file")
    columns = parser.add_argument_group("columns")
    for role in ("group", "successes", "trials", "failures"):
        columns.add_argument(f"--{role}", metavar="COLUMN", help=f"which column has the {role}")
    columns.add_argument(
        "--add-up", action="store_true", help="add up rows of one group; count rows of single people"
    )
    model = parser.add_argument_group("model")
    model.add_argument(
        "--sigma-prior", default="exponential(1)", metavar="PRIOR",
        help="exponential(RATE), halfnormal(SD) or halfcauchy(SCALE) on sigma; exponential(1)",
    )  # fmt: skip
    model.add_argument(
        "--alpha-prior", default="normal(0, 1.5)", metavar="PRIOR",
        help="normal(MEAN, SD) on the groups' mean log odds; normal(0, 1.5)",
    )  # fmt: skip
    model.add_argument(
        "--prob", type=float, default=0.89, metavar="P", help="probability of intervals; 0.89"
    )
    output = parser.add_argument_group("output, instead of the report as text")
    output.add_argument("--json", action="store_true", help="everything as JSON")
    output.add_argument("--csv", action="store_true", help="one row per group, as CSV")
    output.add_argument("--code", choices=("pymc", "bambi", "brms"), help="a program to run")
    parser.add_argument("--html", metavar="FILE", type=Path, help="write the report as a page, too")
    parser.set_defaults(run=_counts)


def _counts(options: argparse.Namespace) -> int:
    from fieldguide.counts_table import CountsError

    try:
        priors = _prior(options.sigma_prior, spread=True), _prior(options.alpha_prior, spread=False)
    except ValueError as error:
        return _say(error)
    from fieldguide.counts import your_counts
    from fieldguide.reference._protocol import ExactPosteriorError

    if sum((options.json, options.csv, options.code is not None)) > 1:
        return _say("Choose one of --json, --csv and --code.")
    try:
        with _Progress() as tick:
            report = your_counts(
                options.file,
                group=options.group,
                successes=options.successes,
                trials=options.trials,
                failures=options.failures,
                add_up=options.add_up,
                sigma_prior=priors[0],
                alpha_prior=priors[1],
                prob=options.prob,
                tick=tick,
            )
    except (CountsError, ExactPosteriorError, ValueError, TypeError) as error:
        sentence = str(error)
        return _say(sentence if sentence.startswith(options.file) else f"{options.file}: {sentence}")
    try:
        if options.html:
            options.html.write_text(report.page(), encoding="utf-8")
        if options.json:
            print(report.to_json())
        elif options.csv:
            print(report.table.to_csv(), end="")
        elif options.code:
            print(report.code(options.code), end="")
        else:
            print(report)
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:
        return _say(f"{error}")
    return HEALTHY if report.healthy else TROUBLE


def _prior(words: str, *, spread: bool) -> Any:
    """Return the frozen distribution that the words name."""
    import re

    import scipy.stats

    found = re.fullmatch(r"\s*([a-z_]+)\s*\(\s*([^()]*)\)\s*", words.lower().replace("-", "_", 1) if
                         words.lower().startswith("half-") else words.lower())  # fmt: skip
    known: dict[str, tuple[int, Callable]] = {
        "exponential": (1, lambda rate: scipy.stats.expon(scale=1 / rate)),
        "halfnormal": (1, lambda sd: scipy.stats.halfnorm(scale=sd)),
        "halfcauchy": (1, lambda scale: scipy.stats.halfcauchy(scale=scale)),
    }
    if not spread:
        known = {"normal": (2, lambda mean, sd: scipy.stats.norm(mean, sd))}
    forms = ", ".join(known)
    try:
        name, values = found.group(1).replace("_", ""), found.group(2).split(",")  # type: ignore[union-attr]
        count, make = known[name]
        numbers = [float(value) for value in values]
        if len(numbers) != count or not numbers[-1] > 0:
            raise ValueError
        return make(*numbers)
    except (AttributeError, KeyError, ValueError):
        raise ValueError(
            f"The prior {words!r} is not understood; write {forms} with "
            f"{'a positive number' if spread else 'a mean and a positive sd'} in brackets."
        ) from None


class _Progress:
    """A bar on the terminal for what takes more than a few seconds; nothing where nobody looks."""

    AFTER = 3.0

    def __enter__(self) -> Callable[[float], None]:
        from time import perf_counter

        from tqdm import tqdm

        start = perf_counter()
        self.bar: Any = None

        def tick(share: float) -> None:
            late = perf_counter() - start > self.AFTER
            if self.bar is None and late and sys.stderr.isatty():
                self.bar = tqdm(total=100, leave=False, bar_format="{l_bar}{bar}| {elapsed}<{remaining}")
            if self.bar is not None:
                self.bar.n = round(100 * min(share, 1))
                self.bar.refresh()

        return tick

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()


# ---------------------------------------------------------------------------------------------
# fieldguide diagnose

_DIAGNOSE = """What the draws of a fit say about how well it was sampled, and what to do.

FILE is a fit by PyMC, Bambi or nutpie as NetCDF or Zarr (a folder, or zipped); the CSV files of
CmdStan, one per chain, or their folder; or a CSV file of draws exported from brms or rstan."""

_DIAGNOSE_END = """examples:
  fieldguide diagnose fit.nc
  fieldguide diagnose output_1.csv output_2.csv output_3.csv output_4.csv
  fieldguide diagnose draws.csv --html report.html
  fieldguide diagnose stanfit.csv --chains 4 --json

how a fit gets into a file:
  in Python  fit.to_netcdf("fit.nc", engine="h5netcdf")
  in R       said <- rstan::get_sampler_params(fit$fit, inc_warmup = FALSE)
             draws <- cbind(posterior::as_draws_df(fit), do.call(rbind, said))
             write.csv(draws, "draws.csv", row.names = FALSE)
  This is for brms; for rstan, write fit instead of fit$fit.

exit status:
  0  healthy: nothing in the draws speaks against the fit
  1  trouble: the report says what, and what to do
  2  no answer: the file cannot be read as draws, and a sentence says why"""


def _add_diagnose(jobs: Any) -> None:
    parser = jobs.add_parser(
        "diagnose",
        help="what is wrong with a fit, and what to do",
        description=_DIAGNOSE,
        epilog=_DIAGNOSE_END,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", metavar="FILE", nargs="+", help="a fit; of CmdStan, one file per chain")
    parser.add_argument(
        "--chains", type=int, metavar="N", help="a table without chains: split its rows into N of them"
    )
    parser.add_argument("--json", action="store_true", help="everything as JSON, instead of as text")
    parser.add_argument("--html", metavar="FILE", type=Path, help="write the report as a page, too")
    parser.set_defaults(run=_diagnose)


def _diagnose(options: argparse.Namespace) -> int:
    from fieldguide.diagnosis.reading import DrawsError, read_draws

    files = options.files
    try:
        with _Progress() as tick:
            draws = read_draws(files[0] if len(files) == 1 else files, chains=options.chains, tick=tick)
        from fieldguide.diagnosis import diagnose

        report = diagnose(draws)
    except DrawsError as error:
        return _say(error)
    try:
        if options.html:
            options.html.write_text(report.page(), encoding="utf-8")
        print(report.to_json() if options.json else report)
    except BrokenPipeError:
        raise
    except OSError as error:
        return _say(error)
    return HEALTHY if report.healthy else TROUBLE


# ---------------------------------------------------------------------------------------------
# fieldguide rows

_ROWS = """Count successes and trials in a table with one row per person, however long it is.

FILE is CSV (gzipped or not) or Parquet; several are read as one table. They are read in pieces, so
memory grows with the number of patterns and not with that of rows."""

_ROWS_END = """examples:
  fieldguide rows women.csv --by district --outcome use --to counts.csv
  fieldguide counts counts.csv
  fieldguide rows women/*.parquet --by district --by urban --outcome use --to patterns.csv
  fieldguide rows women.csv --by district --outcome use --success Y --drop-missing

exit status:
  0  counted
  2  no answer: a file or a row cannot be counted, and a sentence says why"""


def _add_rows(jobs: Any) -> None:
    parser = jobs.add_parser(
        "rows",
        help="a table with one row per person, counted",
        description=_ROWS,
        epilog=_ROWS_END,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", metavar="FILE", nargs="+", help="CSV or Parquet")
    parser.add_argument(
        "--by", metavar="COLUMN", action="append", required=True,
        help="the group, and again for each covariate",
    )  # fmt: skip
    parser.add_argument("--outcome", metavar="COLUMN", required=True, help="0 or 1 in every row")
    parser.add_argument(
        "--success", metavar="VALUE", help="which value is a success, if the outcome has two others"
    )
    parser.add_argument(
        "--drop-missing", action="store_true", help="leave out rows where a value is missing"
    )
    parser.add_argument("--to", metavar="FILE", type=Path, help="write the counts there, not on screen")
    parser.set_defaults(run=_rows)


def _rows(options: argparse.Namespace) -> int:
    from time import perf_counter

    from fieldguide.counts_rows import count_rows
    from fieldguide.counts_table import CountsError

    start, to = perf_counter(), options.to
    if to is not None:
        if any(to.resolve() == Path(file).resolve() for file in options.files):
            return _say(f"{to}: the counts would replace the rows; give another file.")
        if not to.absolute().parent.is_dir() or to.is_dir():
            return _say(f"{to}: no file can be written there; give one in a folder that exists.")
    try:
        with _Progress() as tick:
            table = count_rows(
                options.files,
                options.by,
                options.outcome,
                success=options.success,
                drop_missing=options.drop_missing,
                tick=tick,
            )
    except CountsError as error:
        return _say(error)
    try:
        if to is None:
            print(table.to_csv(index=False), end="")
        else:
            table.to_csv(to, index=False)
    except BrokenPipeError:
        raise
    except OSError as error:
        return _say(f"{to}: the counts cannot be written ({error.strerror}).")
    left_out = table.attrs["left_out"]
    print(
        f"{table.attrs['rows']:,} rows are {len(table):,} patterns"
        + (f"; {left_out:,} rows with a value missing were left out" if left_out else "")
        + f" ({perf_counter() - start:.1f} s).",
        file=sys.stderr,
    )
    return HEALTHY


SUBCOMMANDS: tuple[Callable[[Any], None], ...] = (_add_counts, _add_rows, _add_diagnose)
"""What adds each subcommand to the parser, with the function that runs it as ``run``."""
