"""All scores of all trusted pairs, clean and under every corruption."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfsynth.checks.base import Check
from mfsynth.checks.verdict import run_checks, score_infos
from mfsynth.errors import MfsynthError
from mfsynth.evaluation.calibration.corruptions import CORRUPTIONS, Corruption
from mfsynth.evaluation.calibration.trusted import Report, TrustedPair


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Scores of n pairs.

    Attributes:
        names: Of the m scores, in the order of the columns.
        signs: (m,): 1 where higher is better, -1 where lower is.
        images: (n,): number of the image that each pair is of.
        clean: (n, m); nan where a check abstains.
        spoilt: (n, m) by corruption; nan, too, where it can't be applied.
        applied: (n,) by corruption: whether it can be.
        same_prompt: How many pairs met the depth of another image of their own prompt.
    """

    names: tuple[str, ...]
    signs: NDArray[np.float64]
    images: NDArray[np.intp]
    clean: NDArray[np.float64]
    spoilt: Mapping[Corruption, NDArray[np.float64]]
    applied: Mapping[Corruption, NDArray[np.bool_]]
    same_prompt: int


def score_pairs(
    pairs: Sequence[TrustedPair], checks: Mapping[str, Check], seed: int, report: Report
) -> Scored:
    """Score pairs, clean and spoilt; a corruption of what no check looks at is left out.

    Args:
        pairs: Of two images at least.
        checks: By name.
        seed: Of corruptions.
        report: Told how far it is.

    Raises:
        MfsynthError: There is one image only.
    """
    if len({pair.image for pair in pairs}) < 2:
        raise MfsynthError("data: one image alone; give more, for each meets the depth of another")
    used = tuple(checks.values())
    infos = score_infos(used)
    # What a check doesn't look at is spoilt in vain: its scores are those of the clean pair.
    seeing = {
        one: tuple(check for check in used if one.seen_by(check.inputs)) for one in CORRUPTIONS
    }
    corruptions = [one for one, looking in seeing.items() if looking]
    shape = len(pairs), len(infos)
    clean = np.full(shape, np.nan)
    spoilt = {corruption: np.full(shape, np.nan) for corruption in corruptions}
    applied = {corruption: np.zeros(len(pairs), bool) for corruption in corruptions}
    partners, strangers = _partners(pairs, seed), _strangers(pairs, seed)
    for number, one in enumerate(pairs):
        scores = run_checks(one.pair, used).scores
        clean[number] = [*scores.values()]
        for corruption in corruptions:
            # By name, so that a new corruption doesn't change the others.
            name = zlib.crc32(corruption.name.encode())
            rng = np.random.default_rng([seed, 3, number, name])
            other = strangers[number] if corruption.spoils == "text" else partners[number]
            bad = corruption.apply(one.pair, pairs[other].pair, rng)
            if bad is not None:
                found = run_checks(bad, seeing[corruption]).scores
                spoilt[corruption][number] = [*(scores | found).values()]
                applied[corruption][number] = True
        report("pairs scored", number + 1, len(pairs))
    texts = [pair.pair.text for pair in pairs]
    same = sum(
        text is not None and text == texts[partner]
        for text, partner in zip(texts, partners, strict=True)
    )
    return Scored(
        names=tuple(infos),
        signs=np.array([1.0 if info.is_minimum else -1.0 for info in infos.values()]),
        images=np.array([pair.image for pair in pairs]),
        clean=clean,
        spoilt={one: rows for one, rows in spoilt.items() if applied[one].any()},
        applied={one: there for one, there in applied.items() if there.any()},
        same_prompt=same,
    )


def _partners(pairs: Sequence[TrustedPair], seed: int) -> list[int]:
    """For each pair one of another item, of the same prompt if there is one."""
    by_text: dict[str | None, list[int]] = {}
    for number, one in enumerate(pairs):
        by_text.setdefault(one.pair.text, []).append(number)
    partners = []
    for number, one in enumerate(pairs):
        alike = by_text[one.pair.text] if one.pair.text is not None else []
        candidates = [i for i in alike if pairs[i].item != one.item] or [
            i for i, pair in enumerate(pairs) if pair.image != one.image
        ]
        partners.append(int(np.random.default_rng([seed, 4, number]).choice(candidates)))
    return partners


def _strangers(pairs: Sequence[TrustedPair], seed: int) -> list[int]:
    """For each pair one of another prompt; itself where there is none."""
    texts = np.array([pair.pair.text or "" for pair in pairs])
    return [
        int(np.random.default_rng([seed, 7, number]).choice(others)) if others.size else number
        for number, text in enumerate(texts)
        for others in [np.flatnonzero(texts != text)]
    ]
