"""A Dask cluster to make fits on, once its workers have the same code as this process."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from fieldguide.grid import versions
from fieldguide.studies.code import code_digest

WAIT_FOR_SCHEDULER = WAIT_FOR_WORKERS = 10
"""Seconds that a cluster without workers is given."""


class ClusterError(RuntimeError):
    """A Dask cluster cannot be used; the message says why and what to do."""


def _made_with(fit: Callable) -> dict[str, str]:
    """Return what a fit's figures depend on besides its cell: the code, and versions by package."""
    found = versions()
    return {f"the code of {fit.__name__}": code_digest(fit), "python": found["python"]} | found[
        "versions"
    ]


@contextlib.contextmanager
def cluster(address: str, fit: Callable) -> Iterator[tuple]:
    """Connect to a Dask cluster whose workers have the same code; yield its executor and cores.

    Parameters
    ----------
    address : str
        Of its scheduler, ``tcp://...``.
    fit : callable
        What is to be run there; its code, and the versions of packages, are compared.

    Raises
    ------
    ClusterError
        If there is no scheduler, no worker, or a worker with another state of the project.
    """
    try:
        from distributed import Client
    except ImportError:
        raise ClusterError(
            "--dask needs the package distributed, which is not installed; the project's lock has it."
        ) from None
    try:
        client = Client(address, timeout=WAIT_FOR_SCHEDULER)
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"No Dask scheduler answers at {address} ({error}). Start one with: dask scheduler"
        ) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=WAIT_FOR_WORKERS)
        except TimeoutError:
            raise ClusterError(
                f"The scheduler at {address} has no workers. Start some with: dask worker {address}"
            ) from None
        mine = _made_with(fit)
        try:
            theirs = client.run(_made_with, fit)
        except Exception as error:
            raise ClusterError(
                f"The workers cannot load this study ({type(error).__name__}: {error}). Install the "
                "project there from the same lock."
            ) from None
        for worker, there in theirs.items():
            other = [what for what, value in mine.items() if there[what] != value]
            if other:
                what = ", ".join(f"{name} {there[name]} (here {mine[name]})" for name in other)
                raise ClusterError(
                    f"The worker {worker} has another state of the project: {what}. Bring it to the "
                    "same one, from the same lock, and start it again."
                )
        yield client.get_executor(), sum(client.nthreads().values()) or None
