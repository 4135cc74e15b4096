"""Findings as people and programs read them."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

from mfsynth.formatting import one_line
from mfsynth.runs.doctor.findings import Finding, Severity
from mfsynth.storage.credentials import without_credentials

_SEVERITY_WIDTH = max(len(severity.word) for severity in Severity)
_NAME_WIDTH = 18


def lines(name: str, found: Finding, width: int) -> list[str]:
    """A finding, wrapped to so many columns; its remedy begins a line of its own."""
    head = f"{found.severity.word:{_SEVERITY_WIDTH}}  {name:{_NAME_WIDTH}}  "
    indent = " " * len(head)
    fit = partial(textwrap.wrap, width=width, break_on_hyphens=False)
    wrapped = fit(one_line(found.seen), initial_indent=head, subsequent_indent=indent)
    if found.remedy:
        wrapped += fit(
            one_line(found.remedy),
            initial_indent=f"{indent}→ ",
            subsequent_indent=f"{indent}  ",
        )
    return wrapped


def summary(findings: Collection[Finding]) -> str:
    """`2 errors, 1 warning, 12 ok`."""
    numbers = Counter(found.severity for found in findings)
    return ", ".join(
        f"{numbers[severity]} {severity.word}"
        + ("s" if numbers[severity] > 1 and severity is not Severity.OK else "")
        for severity in reversed(Severity)
        if numbers[severity]
    )


def document(subject: str, findings: Mapping[str, Finding]) -> dict[str, Any]:
    """JSON values."""
    return {
        "subject": without_credentials(subject),
        "severity": worst(findings.values()).word,
        "findings": [
            {
                "name": name,
                "severity": found.severity.word,
                "seen": found.seen,
                "remedy": found.remedy,
            }
            for name, found in findings.items()
        ],
    }


def worst(findings: Collection[Finding]) -> Severity:
    """The gravest severity among findings."""
    return max((found.severity for found in findings), default=Severity.OK)


def exit_status(findings: Collection[Finding]) -> int:
    """0 for nothing worse than a note, 1 for warnings, 2 for errors."""
    return max(0, worst(findings) - Severity.NOTE)
