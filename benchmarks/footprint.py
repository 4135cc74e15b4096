"""What mfsynth takes: bytes that it installs, and memory of the demo.

    python benchmarks/footprint.py [--pairs 64]

Installed: the files of mfsynth and of all that it requires without extras, in this environment.
Memory: the most that the demo's processes, Ray's included, have at one time, by the kernel's
proportional shares (a page that n processes share is an n-th of each), looked at four times a
second. Linux.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import click
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EVERY_S = 0.25


@click.command()
@click.option("--pairs", default=64, show_default=True, help="Of the demo.")
def main(pairs: int) -> None:
    """Print both."""
    sizes = {name: _size(found) for name, found in _required("mfsynth").items()}
    largest = sorted(sizes, key=lambda name: -sizes[name])[:5]
    parts = ", ".join(f"{name} {sizes[name] / 1e6:,.0f}" for name in largest)
    click.echo(f"installed: {sum(sizes.values()) / 1e9:.2f} GB in {len(sizes)} packages")
    click.echo(f"  the largest, MB: {parts}")
    with tempfile.TemporaryDirectory() as folder:
        click.echo(f"peak memory of {pairs} pairs: {_peak(pairs, folder) / 1e9:.2f} GB")


def _required(name: str) -> dict[str, Distribution]:
    """A distribution and all that it requires here, without extras."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(name, "")]
    while waiting:
        wanted, extra = waiting.pop()
        key = canonicalize_name(wanted)
        if (key, extra) in seen:
            continue
        seen.add((key, extra))
        try:
            found[key] = distribution(wanted)
        except PackageNotFoundError:
            continue  # of another platform
        for line in found[key].requires or []:
            required = Requirement(line)
            if required.marker is None or required.marker.evaluate({"extra": extra}):
                waiting += [(required.name, each) for each in {"", *required.extras}]
    return found


def _size(found: Distribution) -> int:
    paths = [Path(str(file.locate())) for file in found.files or []]
    return sum(path.stat().st_size for path in paths if path.is_file())


def _peak(pairs: int, folder: str) -> int:
    command = [sys.executable, "-m", "mfsynth.cli", "generate", "local"]
    options = ["--pairs", str(pairs), "--out", f"{folder}/demo"]
    driver = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL)
    most = 0
    while driver.poll() is None:
        most = max(most, sum(_share(process) for process in _tree(driver.pid)))
        time.sleep(EVERY_S)
    if driver.returncode:
        sys.exit(f"the demo ended with {driver.returncode}")
    return most


def _tree(root: int) -> set[int]:
    """A process and its descendants, also those that Ray has in sessions of their own."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        parents[int(stat.parent.name)] = int(fields[1])
    found = {root}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def _share(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


if __name__ == "__main__":
    main()
