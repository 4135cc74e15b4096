"""A long run under random faults, compared with one that had none.

    python tests/soak/soak.py [--minutes 30] [--pace 1] [--seed 0] [--folder FOLDER]

Starts a Ray cluster of several nodes on this machine, and a driver on it with real workers, a real
store and a model that costs nothing. Every few seconds something goes wrong: `FAULTS` says what.
Whatever ended is started again, as a person or a scheduler would. After the given minutes the
faults stop, the run is given a target that it has not reached yet, and ends. Then every sample is
compared with that of a run in this process in which nothing went wrong.

Prints a Markdown summary and exits with a status other than 0 if anything is not as it should be.
`FOLDER/faults.log` has a line for every fault and every end of a driver; the drivers' own logs are
beside it.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import click
import psutil
from checking import check
from driving import ATTEMPTS
from faults import FAULTS
from session import REFUSALS, Collected, Soak

from mfsynth.shards.commits import read_commits


def summary(soak: Soak, minutes: float, gc: Collected, checked: Sequence[str]) -> str:
    receipts = read_commits(soak.store)
    attempts = len((soak.folder / ATTEMPTS).read_text().splitlines())
    pairs = sum(receipt.accepted for receipt in receipts.values())
    lines = [
        f"{minutes:g} minutes of faults, {sum(soak.happened.values())} in all; "
        f"{soak.sessions} sessions of drivers; {attempts} attempts at shards, "
        f"{len(receipts)} committed; {pairs} pairs",
        "",
        "| fault | times |",
        "|---|---|",
        *(f"| {fault.name} | {soak.happened[fault.name]} |" for fault in FAULTS),
        "",
        "| end of a driver | times |",
        "|---|---|",
        *(f"| {end} | {times} |" for end, times in sorted(soak.ends.items())),
        "",
        "| `gc` beside the run | times |",
        "|---|---|",
        *(f"| refused: {why} | {gc.refused[why]} |" for why in REFUSALS),
        f"| worked: {gc.marked} objects marked, {gc.removed} removed | {gc.calls} |",
        "",
        "Checked:",
        "",
        *(f"- {line}" for line in checked),
        "",
        f"Problems: {len(soak.problems) or 'none'}",
        *(f"- {problem}" for problem in soak.problems),
    ]
    return "\n".join(lines)


@click.command()
@click.option("--minutes", default=30.0, help="How long faults go on.")
@click.option("--pace", default=1.0, help="How much slower than two idle cores the machine is.")
@click.option("--seed", default=0, help="Of the faults.")
@click.option("--folder", type=click.Path(path_type=Path), help="New; by default a temporary one.")
def main(minutes: float, pace: float, seed: int, folder: Path | None) -> None:
    """Run under random faults, and compare with a run that had none."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    folder = folder or Path(tempfile.mkdtemp(prefix="soak-"))
    soak = Soak(folder, seed, pace)
    try:
        soak.suffer(60 * minutes, FAULTS)
        soak.come_to_an_end()
        collected = soak.collected()
        text = summary(soak, minutes, collected, check(soak, collected))
    finally:
        for process in soak.strays():
            with suppress(psutil.Error):
                process.kill()
    click.echo(text)
    click.echo(f"\nlog: {folder / 'faults.log'}", err=True)
    sys.exit(1 if soak.problems else 0)


if __name__ == "__main__":
    main()
