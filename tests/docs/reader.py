"""What a reader of the pages has on the disk, and how their commands are run: here, and small.

A command is called in this process. What Ray's workers would make of a run, one of this process
makes; then the command drives the run, and finds it finished.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_jobs
from fenced import ROOT, Block, of_page
from PIL import Image
from video_files import write_video

from mfsynth.cli import main
from mfsynth.config import RunConfig
from mfsynth.runs import driver
from mfsynth.runs.settings import complete

_LOOSE = (
    "{validity: {min_valid_fraction: 0, min_dynamic_range: 1}, registration: {min: -100}, "
    "flying_pixels: {max: 1}}"
)
_RUN = ("--set", f"checks={_LOOSE}", "--set", "shard_size=4")
# What makes a command small; what the page says comes after it, and counts.
SMALL: dict[str, tuple[str, ...]] = {
    "generate": (*_RUN, "--set", "target.candidates=4"),
    "annotate": _RUN,
    "train desk_network.yaml": (
        *("--set", "steps=2", "--set", "batch_size=2", "--set", "warmup_steps=1"),
    ),
}
# What pages say, and what stands for it here: small runs have few candidates.
INSTEAD: dict[str, str] = {
    "library=desk.yaml --out out/desk": "library=desk.yaml --out out/own_desk",
    "registration>=2": "registration>=-100",
    "flying_pixels<=0.3": "flying_pixels<=1",
    "reproduce out/mine 123": "reproduce out/mine 1",
}
# What is not run, by how it begins, and why. Whatever isn't named here or by a comment is run.
NOT_RUN: dict[str, str] = {
    "make": "installs, then runs what the tutorial and tests run",
    "pip install": "installs from the network; tests/packaging looks at the extras",
    ".venv/bin/pip install": "installs from the network; tests/packaging looks at the extras",
    ".venv/bin/pytest": "is these tests",
    ".venv/bin/python tests/soak/soak.py": "half an hour",
    ".venv/bin/python benchmarks/": "a measurement, of minutes to hours",
    "python benchmarks/": "a measurement, of minutes to hours",
    "python pipelines/": "tests/pipelines does",
    "source": "of a shell",
    "export": "of a shell; tests/runs/test_alerts.py tells both kinds",
    "accelerate launch": "starts processes; tests/training/test_processes.py does",
    "torchrun": "starts processes; tests/training/test_processes.py does",
    "mfsynth retexture": "not tried small; tests/runs/test_jobs.py makes such runs",
    "mfsynth train embedded": "not tried small; tests/training has small ones",
    "mfsynth train estimator": "not tried small; tests/training has small ones",
    "mfsynth train klein-4b": "not tried; tests/training/test_requirements.py says as much",
    "mfsynth distill": "not tried small; tests/training has small ones",
    "mfsynth generate local --set model.few_steps=": "wants what distill makes; tests/models does",
    "mfsynth config": "not tried yet; tests/cli/test_config_command.py does",
    "mfsynth data inspect": "not tried yet; tests/cli/test_data_command.py looks at such files",
    "mfsynth generate local --log json": "not tried yet; tests/runs/test_watching_a_run.py does",
    "mfsynth generate local --set keep_rejects=": "not tried yet; tests/shards/test_views.py does",
    "mfsynth export s3://": "not tried yet; tests/datasets/exports does",
    "mfsynth push s3://": "not tried yet; tests/cli/test_push_command.py does",
    "mfsynth push out/mine out/": "not tried yet; tests/cli/test_push_command.py does",
    "mfsynth finalize out/mine --energon": "not tried yet; tests/shards/test_energon.py does",
    "mfsynth calibrate": "hundreds of scenes; tests/cli/test_calibrate_command.py has few",
    "mfsynth evaluate": "not tried small; tests/cli/test_evaluate_command.py has few images",
    "mfsynth doctor local": "starts Ray; tests/runs/test_doctor.py does",
    "mfsynth doctor my.yaml": "starts Ray; tests/runs/test_doctor.py does",
    "mfsynth generate my.yaml --dry-run": "starts Ray; tests/runs/test_dry_run.py does",
    "mfsynth generate local --set checks.calibration=": "wants what calibrate makes; "
    "tests/runs/test_calibrated_runs.py does",
    "mfsynth plan": "wants a run that GPUs made; tests/cli/test_plan_command.py has its receipts",
    "mfsynth generate released": "needs released weights and a GPU",
    "mfsynth model convert": "needs released weights; tests/models has small ones",
    "mfsynth model info models/": "needs released weights; tests/models has small ones",
    "mfsynth view": "needs Rerun, which no test installs; tests/reports/test_recordings.py looks",
    "mfsynth export out/mine --format bop --out out/bop --assume-fov 69 --metres-per-unit 1.4 "
    "--c2pa": "wants a certificate; tests/datasets/exports/test_signing.py has one",
}
# What is not wrong but to be said: `doctor` leaves with 1 for warnings.
_ENDS = {"doctor": (0, 1)}


def commands(block: Block) -> Iterator[tuple[list[str], list[str]]]:
    """The commands of a block, as the page has them and as they are run here."""
    here = block.text
    for said, meant in INSTEAD.items():
        here = here.replace(said, meant)
    found = [map(_without_streams, each.commands()) for each in (block, replace(block, text=here))]
    for said, meant in zip(*found, strict=True):
        yield said, small(meant)


def why_not(words: list[str]) -> str | None:
    """Why a command is not run; None for one that is."""
    line = " ".join(words)
    return next((why for start, why in NOT_RUN.items() if line.startswith(start)), None)


def size_of(words: list[str]) -> str | None:
    """What of `SMALL` a command takes; None for nothing."""
    names = [" ".join(words[1:3]), words[1]] if words[0] == "mfsynth" else []
    return next((name for name in names if name in SMALL), None)


def small(words: list[str]) -> list[str]:
    """A command with what makes it small."""
    name = size_of(words)
    if name is None:
        return words
    program, verb, *given = words
    if verb == "generate" and "--pairs" in given:
        at = given.index("--pairs")
        del given[at : at + 2]
    return [program, verb, *SMALL[name], *given]


def run(words: list[str]) -> None:
    """Run a command of mfsynth here; it must end well."""
    program, *arguments = words
    assert program == "mfsynth", f"no test runs {program}"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(driver, "generate", partial(_made_here, driver.generate))
        with pytest.raises(SystemExit) as ended:
            main(arguments)
    assert (ended.value.code or 0) in _ENDS.get(arguments[0], (0,)), words


def follow(page: str, place: str = "") -> list[list[str]]:
    """Run what a page says in this folder.

    Args:
        page: Of the repository.
        place: What stands for `s3://bucket`.

    Returns:
        What was run.
    """
    done = []
    for block in of_page(page):
        if block.file:
            Path(block.file).write_text(block.text)
        if block.language != "sh" or block.not_run:
            continue
        for said, meant in commands(block):
            if why_not(said) is None:
                run([word.replace("s3://bucket", place) for word in meant])
                done.append(said)
    return done


def _without_streams(words: list[str]) -> list[str]:
    ends = [at for at, word in enumerate(words) if word in ("2>", ">", "|")]
    return words[: ends[0]] if ends else words


def _made_here(drive: Any, config: RunConfig, **how: Any) -> Any:
    tiny_jobs.make(complete(config))
    return drive(config, **how)


def furnish(folder: Path) -> None:
    """Write the files that pages take to be there."""
    shutil.copy(ROOT / "configs" / "local.yaml", folder / "my.yaml")
    pictures = [np.full((32, 48, 3), 40 * number, np.uint8) for number in range(2)]
    parent = folder / "photographs"
    parent.mkdir()
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(parent / f"{number}.jpg")
        (parent / f"{number}.txt").write_text(f"picture {number}")
    write_video(folder / "kitchen.mp4", pictures, "yuv420p", "mpeg4")
