"""A calibration as a picture: AUC of each score against each corruption, an SVG."""

from __future__ import annotations

from html import escape
from itertools import pairwise

from mfsynth.checks.calibration_files import CalibrationFile
from mfsynth.evaluation.calibration.report import TITLES, UPPER_BOUNDS, columns, is_upper_bound

_LEFT, _TOP, _WIDTH, _HEIGHT = 190, 150, 64, 24
# Of AUC: blind, useful, certain.
_BLIND, _HALF, _CERTAIN = (0.5, (244, 244, 242)), (0.85, (146, 197, 222)), (1.0, (5, 48, 97))
_WRONG = (0.0, (178, 24, 43))


def to_svg(found: CalibrationFile) -> str:
    """Rows are corruptions, columns scores; darker blue is nearer to 1, red below a half."""
    figures = found.figures
    names, rows = columns(figures), [*figures["corruptions"]]
    width = _LEFT + _WIDTH * len(names) + 60
    height = _TOP + _HEIGHT * (len(rows) + 1) + 60
    shapes = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        '<text x="10" y="20" font-size="14">How well scores tell clean pairs from spoilt ones '
        "(AUC)</text>",
        f'<text x="10" y="38">{figures["pairs"]} pairs of {figures["images"]} images; intervals '
        "are in the table</text>",
    ]
    if is_upper_bound(found):
        shapes.append(f'<text x="10" y="54" fill="#b2182b">{escape(UPPER_BOUNDS)}</text>')
    for column, name in enumerate(names):
        x = _LEFT + _WIDTH * (column + 0.5)
        title = escape(TITLES.get(name, name))
        shapes.append(
            f'<text x="{x}" y="{_TOP - 8}" transform="rotate(-35 {x} {_TOP - 8})">{title}</text>'
        )
    for number, row in enumerate(rows):
        title = f"{row['corruption']} (mild)" if row["mild"] else row["corruption"]
        cells = [row["scores"][name]["auc"][0] for name in names]
        shapes += _row(title, cells, _TOP + _HEIGHT * number)
    mean = [figures["mean"][name]["auc"][0] for name in names]
    shapes += _row("mean, without mild ones", mean, _TOP + _HEIGHT * len(rows) + 8)
    return "\n".join([*shapes, "</svg>"]) + "\n"


def _row(title: str, cells: list[float], top: float) -> list[str]:
    middle = top + _HEIGHT / 2 + 4
    shapes = [f'<text x="{_LEFT - 8}" y="{middle}" text-anchor="end">{escape(title)}</text>']
    for column, value in enumerate(cells):
        red, green, blue = _colour(value)
        ink = "white" if 0.3 * red + 0.6 * green + 0.1 * blue < 128 else "black"
        x = _LEFT + _WIDTH * column
        shapes += [
            f'<rect x="{x}" y="{top}" width="{_WIDTH - 2}" height="{_HEIGHT - 2}" '
            f'fill="rgb({red},{green},{blue})"/>',
            f'<text x="{x + _WIDTH / 2 - 1}" y="{middle}" text-anchor="middle" fill="{ink}">'
            f"{value:.2f}</text>",
        ]
    return shapes


def _colour(value: float) -> tuple[int, int, int]:
    stops = (_WRONG, _BLIND, _HALF, _CERTAIN)
    for (low, first), (high, last) in pairwise(stops):
        if value <= high:
            share = (value - low) / (high - low)
            red, green, blue = (
                round(a + share * (b - a)) for a, b in zip(first, last, strict=True)
            )
            return red, green, blue
    return _CERTAIN[1]
