"""`mfsynth export`: pairs in the formats of other programs."""

from __future__ import annotations

import click

from mfsynth.cli import options
from mfsynth.cli.output import bars, echo


class _WithFormats(click.Command):
    """Shows the formats below the options, which are imported only then."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from mfsynth.datasets.exports.registry import FORMATS

        with formatter.section("Formats"):
            formatter.write_dl([(name, _told(kind)) for name, kind in FORMATS.items()])


@click.command(cls=_WithFormats)
@click.argument("url")
@click.option("--format", "name", required=True, metavar="F", help="One of the formats below.")
@click.option("--out", required=True, metavar="DIR", help="A folder: new, empty or of this export.")
@click.option("--view", metavar="NAME", help="Pairs of a view (mfsynth refilter).")
@click.option("--filter", "condition", help="Such as \"registration > 2 and 'mug' in objects\".")
@options.metres_per_unit
@options.assume_fov
@click.option("--c2pa-certificate", metavar="FILE", help="Sign pictures by C2PA: chain, PEM.")
@click.option("--c2pa-key", metavar="FILE", help="Its private key, PEM, without a password.")
@click.option(
    "--set", "overrides", multiple=True, metavar="A=C", help="Change an option; repeatable."
)
def export(
    url: str,
    name: str,
    out: str,
    view: str | None,
    condition: str | None,
    metres_per_unit: float | None,
    assume_fov: float | None,
    c2pa_certificate: str | None,
    c2pa_key: str | None,
    overrides: tuple[str, ...],
) -> None:
    """Write the pairs of the run at URL in another format.

    Generated depth is relative, and most formats mean metres: such pairs are refused unless
    --metres-per-unit says how long a unit is. The same command goes on with an export that was
    killed, and ends with the same files.
    """
    from functools import partial
    from pathlib import Path

    from mfsynth.datasets import RGBDDataset
    from mfsynth.datasets.exports.exporting import export as write
    from mfsynth.datasets.exports.pairs import Pairs
    from mfsynth.datasets.exports.registry import open_exporter
    from mfsynth.datasets.exports.signing import PictureSigner
    from mfsynth.errors import MfsynthError
    from mfsynth.storage.store import ObjectStore

    if (c2pa_certificate is None) != (c2pa_key is None):
        raise click.UsageError("--c2pa-certificate and --c2pa-key go together")
    exporter = open_exporter(name, overrides)
    place = ObjectStore.open(out)
    folder = place.local_root
    if folder is None:
        raise MfsynthError("--out is a folder of this machine; copy the export from there")
    if place.overlaps(ObjectStore.open(url)):
        raise MfsynthError(f"{folder}: lies in the run, or the run in it; give another folder")
    dataset = RGBDDataset(url, view=view)
    if condition is not None:
        dataset = dataset.filter(condition)
    pairs = Pairs(dataset, metres_per_unit=metres_per_unit, assume_fov=assume_fov)
    signer = None
    if c2pa_certificate is not None and c2pa_key is not None:
        signer = PictureSigner(Path(c2pa_certificate), Path(c2pa_key))
    with bars() as report:
        done = write(pairs, name, exporter, folder, partial(report, "exported"), signer)
    there = " (all were there)" if done.was_there else ""
    echo(f"{folder}: {done.pairs} pairs as {name}{there}")
    if done.left_out:
        echo(done.left_out, err=True)
    if done.lost:
        share = done.lost / done.pixels
        echo(
            f"{done.lost} of {done.pixels} pixels with depth ({share:.1%}) are where {name} has no "
            "code; they are invalid there",
            err=True,
        )


def _told(kind: type) -> str:
    from mfsynth.datasets.exports.base import Exporter

    assert issubclass(kind, Exporter)
    parts = [kind.holds]
    if loses := kind.loses():
        parts.append(f"loses {loses}")
    if kind.means_metres:
        parts.append("metres")
    if kind.needs_camera:
        parts.append("needs a camera")
    if kind.extra:
        parts.append(f"pip install 'mfsynth[{kind.extra}]'")
    if fields := kind.model_fields:
        options = ", ".join(f"{name}={field.default}" for name, field in fields.items())
        parts.append(f"--set {options}")
    return "; ".join(parts) + "."
