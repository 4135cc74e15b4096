"""Lays a report out as one HTML page that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mfsynth.geometry.colour import COLOUR_LEVELS, INVALID_RGB, colour_bar
from mfsynth.reports import histogram, images
from mfsynth.reports.content import RunReport, with_fewer_pairs

MOST_BYTES = 1_500_000
"""Below this a page can be mailed, and opens at once."""

# Characters that XML forbids or that no text has a use for; lone surrogates can't be encoded.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
# In this order; what stands at the outermost level of one, those behind it see.
_SCRIPTS = ("depth.js", "colours.js", "space.js", "list.js", "viewer.js", "main.js")


def render_page(report: RunReport, links: str = "") -> str:
    """Renders the page: style, script and images are in it; it asks nothing of any other place.

    All text of the data (prompts, ids, reasons) is escaped, and a policy in the page lets a browser
    run this script alone, whatever else might get into it. Without scripts it can be read as well.

    Args:
        report: What to show.
        links: What leads from the page to the keys of the run, such as `../run/`; "" where nothing
            does, so that keys are shown as text.

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
    environment.filters["near_to_far"] = near_to_far
    style = _text_of(environment, "report.css")
    script = _script(environment)
    policy = (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src '{_hash_of(style)}'; script-src '{_hash_of(script)}'"
    )
    return environment.get_template("report.html").render(
        report=report,
        links=links,
        policy=policy,
        # Ours: there is nothing of the data in them.
        style=Markup(style),
        script=Markup(script),
        data=Markup(_json(_data_of(report))),
        legend_uri=images.data_uri(images.png(colour_bar(256, 1)), "image/png"),
        invalid_colour=f"rgb{INVALID_RGB}",
        plot_width=histogram.WIDTH,
        plot_height=histogram.HEIGHT,
    )


def page_that_fits(report: RunReport, links: str = "") -> bytes:
    """The page as a file, below `MOST_BYTES`: with as many of the pairs as there is room for.

    Args:
        report: As of `render_page`.
        links: As of `render_page`.
    """
    count, page = len(report.pairs), render_page(report, links).encode()
    while len(page) >= MOST_BYTES and count:
        count = count * 9 // 10
        page = render_page(with_fewer_pairs(report, count), links).encode()
    return page


def duration(seconds: float) -> str:
    """Seconds in the unit that people would say: 0.42 s, 14 s, 3.5 min, 2.1 h."""
    if seconds < 1:
        return f"{seconds:.2g} s"
    for below, size, unit in ((120, 1, "s"), (7200, 60, "min"), (math.inf, 3600, "h")):
        if seconds < below:
            value = seconds / size
            return f"{value:.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"
    raise ValueError(f"{seconds} is no duration")


def near_to_far(ends: tuple[float, float]) -> str:
    """Two depths as people write a range: `0.82 – 3.1`."""
    return f"{ends[0]:.3g} – {ends[1]:.3g}"


def without_control_characters(value: object) -> object:
    """Replaces in text what no page may hold; leaves everything else as it is."""
    return _CONTROL.sub("\ufffd", value) if type(value) is str else value


def _data_of(report: RunReport) -> dict[str, Any]:
    """What the script works with: everything else it reads from the page."""
    palette = colour_bar(COLOUR_LEVELS, 1).tobytes()
    return {
        "palette": base64.b64encode(palette).decode("ascii"),
        "invalid": [*INVALID_RGB],
        "scores": [
            {"name": plot.name, "label": plot.score.label, "higher": plot.score.is_minimum}
            for plot in report.histograms
        ],
        "pairs": [card.to_json() for card in report.pairs],
        "rejects": [card.to_json() for card in report.rejects],
    }


def _json(values: dict[str, Any]) -> str:
    """JSON that neither ends its element nor is anything but text in XML."""
    text = json.dumps(values, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _script(environment: Environment) -> str:
    parts = "\n".join(_text_of(environment, name) for name in _SCRIPTS)
    # So that < and & in it are text to readers of XML as they are to those of HTML.
    return f'//<![CDATA[\n(() => {{\n"use strict";\n{parts}\n}})();\n//]]>'


def _text_of(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    text, _, _ = environment.loader.get_source(environment, name)
    return text


def _hash_of(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
