"""Lays a report out as one HTML page that needs nothing else."""

from __future__ import annotations

import math
import re

from jinja2 import Environment, PackageLoader, StrictUndefined

from mfsynth.geometry.colour import INVALID_RGB, colour_bar
from mfsynth.reports import histogram, images
from mfsynth.reports.content import RunReport

# Characters that XML forbids or that no text has a use for; lone surrogates can't be encoded.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def render_page(report: RunReport) -> str:
    """Renders the page: inline style, images as data URIs, no scripts, no outside addresses.

    All text of the data (prompts, ids, reasons) is escaped.

    Args:
        report: What to show.

    Returns:
        HTML that is also well-formed XML.
    """
    environment = Environment(
        loader=PackageLoader("mfsynth.reports"),
        # On for every template, whatever its file is called.
        autoescape=True,
        undefined=StrictUndefined,
        finalize=without_control_characters,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["duration"] = duration
    return environment.get_template("report.html").render(
        report=report,
        legend_uri=images.data_uri(images.png(colour_bar(256, 1)), "image/png"),
        invalid_colour=f"rgb{INVALID_RGB}",
        plot_width=histogram.WIDTH,
        plot_height=histogram.HEIGHT,
    )


def duration(seconds: float) -> str:
    """Seconds in the unit that people would say: 0.42 s, 14 s, 3.5 min, 2.1 h."""
    if seconds < 1:
        return f"{seconds:.2g} s"
    for below, size, unit in ((120, 1, "s"), (7200, 60, "min"), (math.inf, 3600, "h")):
        if seconds < below:
            value = seconds / size
            return f"{value:.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"
    raise ValueError(f"{seconds} is no duration")


def without_control_characters(value: object) -> object:
    """Replaces in text what no page may hold; leaves everything else as it is."""
    return _CONTROL.sub("\ufffd", value) if type(value) is str else value
