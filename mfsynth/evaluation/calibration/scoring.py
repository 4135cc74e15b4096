"""All scores of all trusted pairs, clean and under every corruption."""

from __future__ import annotations

import multiprocessing
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from mfsynth.checks.base import Check, CheckedPair
from mfsynth.checks.registry import networks_of
from mfsynth.checks.verdict import run_checks, score_infos
from mfsynth.errors import MfsynthError
from mfsynth.evaluation.calibration.corruptions import CORRUPTIONS, Corruption
from mfsynth.evaluation.calibration.splitting import parts_of
from mfsynth.evaluation.calibration.trusted import Report, TrustedPair
from mfsynth.processes import end_with_parent, one_thread_each, usable_cores

# To start takes a process as long as it takes to score some pairs.
_WORTH_A_PROCESS = 16

Checks = tuple[Check, ...]
Work = tuple[int, CheckedPair, CheckedPair, CheckedPair]
"""Number of a pair, itself, its partner, and one of another prompt."""

Scores = tuple[Sequence[float], Mapping[str, Sequence[float]]]
"""Of a pair as it is, and spoilt, by the corruption's name."""


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
        MfsynthError: There is one image only, no corruption can be applied to any, or a score is
            infinite.
    """
    if len({pair.image for pair in pairs}) < 2:
        raise MfsynthError("data: one image alone; give more, for each meets the depth of another")
    used = tuple(checks.values())
    infos = score_infos(used)
    corruptions = [*_seeing(used)]
    shape = len(pairs), len(infos)
    clean = np.full(shape, np.nan)
    spoilt = {corruption: np.full(shape, np.nan) for corruption in corruptions}
    applied = {corruption: np.zeros(len(pairs), bool) for corruption in corruptions}
    partners, strangers = _partners(pairs, seed), _strangers(pairs, seed)
    work = [
        (number, one.pair, pairs[partner].pair, pairs[stranger].pair)
        for number, (one, partner, stranger) in enumerate(
            zip(pairs, partners, strangers, strict=True)
        )
    ]
    for number, (scores, bad) in enumerate(_all_scores(checks, seed, work)):
        clean[number] = scores
        for corruption in corruptions:
            if (found := bad.get(corruption.name)) is not None:
                spoilt[corruption][number] = found
                applied[corruption][number] = True
        report("pairs scored", number + 1, len(pairs))
    if not any(there.any() for there in applied.values()):
        raise MfsynthError(
            "checks: nothing that they look at is in the data, so that no corruption spoils it; "
            "add other checks, or data that has it"
        )
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


def _all_scores(checks: Mapping[str, Check], seed: int, work: Sequence[Work]) -> Iterator[Scores]:
    """Of each pair, in order; by all cores where there is work for them."""
    scores = partial(_scores, tuple(checks.values()), seed)
    processes = min(usable_cores(), len(work) // _WORTH_A_PROCESS)
    # A network has all cores by itself, or a GPU that would have to hold one for each process.
    if processes < 2 or networks_of(checks):
        yield from map(scores, work)
        return
    # The caller may have threads, which no fork survives.
    context = multiprocessing.get_context("spawn")
    try:
        with one_thread_each(), ProcessPoolExecutor(processes, context, _begin) as pool:
            yield from pool.map(scores, work)
    except BrokenProcessPool as error:
        raise MfsynthError(
            "a process that scored pairs died, perhaps for want of memory; run again on fewer "
            "cores (with taskset -c)"
        ) from error


def _begin() -> None:
    end_with_parent()
    # There is a process for every core.
    cv2.setNumThreads(1)


def _scores(checks: Checks, seed: int, work: Work) -> Scores:
    """Scores of a pair as it is, and by name of each corruption that can be applied to it."""
    number, pair, partner, stranger = work
    scores = run_checks(pair, checks).scores
    spoilt = {}
    for corruption, looking in _seeing(checks).items():
        # By name, so that a new corruption doesn't change the others.
        name = zlib.crc32(corruption.name.encode())
        rng = np.random.default_rng([seed, 3, number, name])
        bad = corruption.apply(pair, stranger if corruption.spoils == "text" else partner, rng)
        if bad is not None:
            spoilt[corruption.name] = [*(scores | run_checks(bad, looking).scores).values()]
    return [*scores.values()], spoilt


def _seeing(checks: Checks) -> Mapping[Corruption, Checks]:
    """Corruptions, and the checks that look at what each spoils.

    What none looks at is spoilt in vain, and is left out.
    """
    looking = {
        one: tuple(check for check in checks if one.seen_by(check.inputs)) for one in CORRUPTIONS
    }
    return {one: some for one, some in looking.items() if some}


def _partners(pairs: Sequence[TrustedPair], seed: int) -> list[int]:
    """For each pair one of another item, of the same prompt if there is one.

    Of the same part, too, as far as that has another image: what fits the fused score must not
    have seen the depth of those that limits and figures are of.
    """
    images, items = (np.array([getattr(one, name) for one in pairs]) for name in ("image", "item"))
    parts, everything = parts_of(images, seed), np.arange(len(pairs))
    of_part = {part: np.flatnonzero(parts == part) for part in set(parts.tolist())}
    alike: dict[tuple[int, str], list[int]] = {}
    for number, one in enumerate(pairs):
        alike.setdefault((parts[number], one.pair.text or ""), []).append(number)
    of_text = {both: np.array(numbers) for both, numbers in alike.items()}
    partners = []
    for number, (part, one) in enumerate(zip(parts.tolist(), pairs, strict=True)):
        same = of_text[part, one.pair.text] if one.pair.text else everything[:0]
        candidates = same[items[same] != items[number]]
        for wider in (of_part[part], everything):
            if not candidates.size:
                candidates = wider[images[wider] != images[number]]
        partners.append(int(np.random.default_rng([seed, 4, number]).choice(candidates)))
    return partners


def _strangers(pairs: Sequence[TrustedPair], seed: int) -> list[int]:
    """For each pair one of another prompt, of the same part if it has one; else itself."""
    texts = np.array([pair.pair.text or "" for pair in pairs])
    parts = parts_of(np.array([pair.image for pair in pairs]), seed)
    strangers = []
    for number, (text, part) in enumerate(zip(texts, parts, strict=True)):
        others = np.flatnonzero(texts != text)
        near = others[parts[others] == part]
        candidates = near if near.size else others if others.size else [number]
        strangers.append(int(np.random.default_rng([seed, 7, number]).choice(candidates)))
    return strangers
