"""A calibration for people: tables in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mfsynth.checks.calibration import FUSED
from mfsynth.checks.calibration_files import CalibrationFile
from mfsynth.evaluation.calibration.figures import UNSEEN
from mfsynth.evaluation.calibration.power import FALSE_POSITIVES
from mfsynth.formatting import table_row

TITLES: Mapping[str, str] = {FUSED: "fused", UNSEEN: "fused, unseen"}
"""Of columns that are no score of a check."""

UPPER_BOUNDS = (
    "Upper bounds: a perturbed copy of the trusted depth stood in for an estimator, and knows what "
    "no estimator does."
)


def to_markdown(found: CalibrationFile) -> str:
    """All figures, the limits, and what they mean."""
    figures = found.figures
    parts = ["# Checks on trusted pairs", _about(found)]
    if is_upper_bound(found):
        parts.append(f"**{UPPER_BOUNDS}**")
    parts += [
        "## Probability that a clean pair scores better than a spoilt one (AUC)",
        _table(figures, "auc"),
        f"## Share of spoilt pairs rejected where {FALSE_POSITIVES:.0%} of clean ones are",
        _table(figures, "tpr"),
        "In brackets 95 % intervals, bootstrapped by image. A score that abstains passes. "
        f"`{TITLES[FUSED]}`: the fused score of pairs that it was not fitted on; "
        f"`{TITLES[UNSEEN]}`: by weights that have seen no corruption of the row's kind. "
        "*Mild* corruptions are no part of its fit, nor of the mean.",
        "## Limits",
        _limits(found),
    ]
    if "held_out" in figures:
        parts += ["## Pairs held out from all of it", _held_out(figures["held_out"])]
    return "\n\n".join(parts) + "\n"


def columns(figures: Mapping[str, Any]) -> list[str]:
    """Names of the scores of all rows, in order."""
    return [*figures["corruptions"][0]["scores"]]


def is_upper_bound(found: CalibrationFile) -> bool:
    """Whether figures are upper bounds of what checks see."""
    return found.estimator is not None and found.estimator.stands_in


def _about(found: CalibrationFile) -> str:
    figures, settings = found.figures, found.settings
    sources = [
        f"{_name(source['settings'])} ({source['images']} images"
        + (", held out)" if source.get("held_out") else ")")
        for source in found.sources
    ]
    lines = [
        f"{figures['pairs']} pairs of {figures['images']} images, "
        f"{settings['width']}×{settings['height']}, seed {settings['seed']}; {found.made_with}.",
        f"Trusted: {'; '.join(sources)}.",
        f"Other samples' depth: of the same prompt for {figures['same_prompt']} pairs.",
    ]
    if found.estimator is not None:
        revision = f" ({found.estimator.revision[:12]})" if found.estimator.revision else ""
        lines.append(f"Estimates: {found.estimator.name}{revision}.")
    return "\n".join(lines)


def _name(settings: Mapping[str, Any]) -> str:
    where = next(
        (settings[key] for key in ("path", "url", "shards", "library") if key in settings), ""
    )
    return f"{settings['kind']} {where}".strip()


def _table(figures: Mapping[str, Any], figure: str) -> str:
    names = columns(figures)
    lines = [table_row(["corruption", *(TITLES.get(name, name) for name in names)])]
    lines.append(table_row(["---"] * (len(names) + 1)))
    for row in figures["corruptions"]:
        few = "" if row["pairs"] == figures["pairs"] else f" ({row['pairs']} pairs)"
        title = f"*{row['corruption']}* (mild)" if row["mild"] else row["corruption"]
        cells = [_cell(row["scores"][name][figure]) for name in names]
        lines.append(table_row([title + few, *cells]))
    mean = [_cell(figures["mean"][name][figure]) for name in names]
    lines.append(table_row(["**mean, without mild ones**", *mean]))
    return "\n".join(lines)


def _limits(found: CalibrationFile) -> str:
    if found.guarantee is None:
        return "None: made without alpha and delta."
    lines = [
        f"Guarantee: {found.guarantee}.",
        "",
        table_row(["score", "limit", "clean: 5 %, median, 95 %", "clean that abstain"]),
        table_row(["---"] * 4),
    ]
    for name, limit in found.limits.items():
        clean = found.figures["clean"].get(name)
        ranges = ", ".join(f"{value:.4g}" for value in clean["percentiles"]) if clean else ""
        abstains = f"{clean['abstains']:.1%}" if clean else ""
        lines.append(table_row([TITLES.get(name, name), f"{limit:.4g}", ranges, abstains]))
    return "\n".join(lines)


def _held_out(figures: Mapping[str, Any]) -> str:
    clean = f"{figures['clean_rejected']} of {figures['clean_pairs']}"
    lines = [table_row(["pairs", "rejected by all limits together"]), table_row(["---"] * 2)]
    lines.append(table_row(["clean", clean]))
    lines += [
        table_row([row["corruption"], f"{row['rejected']} of {row['pairs']}"])
        for row in figures["corruptions"]
    ]
    return "\n".join(lines)


def _cell(values: Sequence[float]) -> str:
    value, low, high = values
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"
