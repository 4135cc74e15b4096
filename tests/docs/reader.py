"""How the commands of pages are run: here, and small; `furnishing.py` has what lies on the disk.

A command is called in this process. What Ray's workers would make of a run, one of this process
makes; then the command drives the run, and finds it finished.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import tiny_jobs
from fenced import Block, of_page
from furnishing import DESK, MINE

from mfsynth.cli import main
from mfsynth.config import RunConfig
from mfsynth.runs import driver
from mfsynth.runs.settings import complete
from mfsynth.simulation.gl import gl_context

_LOOSE = (
    "{validity: {min_valid_fraction: 0, min_dynamic_range: 1}, registration: {min: -100}, "
    "flying_pixels: {max: 1}}"
)
_RUN = ("--set", f"checks={_LOOSE}", "--set", "shard_size=4")
_SIZE = ("--set", "sampler.height=64", "--set", "sampler.width=64")
_ESTIMATOR = ("--set", "estimator={widths: [8, 16, 24], blocks: 1}", "--set", "size=64")
_DESK = ("--set", f"data={json.dumps([DESK])}")
_STEPS = (
    *("--set", "steps=2", "--set", "batch_size=2", "--set", "warmup_steps=1"),
    *("--set", "workers=null"),
)
# Stands for the address of a cluster, which is joined sooner than one of a command's own is there.
CLUSTER = "CLUSTER"
_JOINING = ("--set", f"runtime.ray_address={CLUSTER}")
# What makes a command small; what the page says comes after it, and counts.
SMALL: dict[str, tuple[str, ...]] = {
    "generate": (*_RUN, *_SIZE, "--set", "target.candidates=4"),
    "generate released": (
        *(
            "--set",
            "checks={validity: {}}",
            "--set",
            "target.candidates=1",
            "--set",
            "shard_size=1",
        ),
        *("--set", "sampler={steps: 1, height: 64, width: 64}", "--set", "model.dtype=float32"),
        *("--set", "prompts.allow_unknown=true"),
    ),
    "doctor local": (*_RUN, *_SIZE, *_JOINING),
    "doctor my.yaml": _JOINING,
    "annotate": (*_RUN, "--set", "sampler.steps=1"),
    "retexture": (
        *("--set", "checks={validity: {}}", "--set", "shard_size=2", "--set", "sampler.steps=1"),
        *("--set", "source.scenes=1"),
    ),
    "train desk_network.yaml": _STEPS,
    "train estimator": (*_STEPS, *_ESTIMATOR, *_DESK),
    "train embedded": (
        *("--set", "optimiser.image_steps=1", "--set", "optimiser.joint_steps=1"),
        *("--set", "optimiser.batch_size=2", "--set", "optimiser.warmup_steps=1"),
        *("--set", "transformer.layers=1", "--set", "transformer.single_layers=1"),
        *("--set", "transformer.heads=1", *_DESK),
    ),
    "distill": (
        *("--set", "optimiser.steps=1", "--set", "optimiser.batch_size=1"),
        *("--set", "optimiser.warmup_steps=0", "--set", "teacher.steps=5"),
        *("--set", "samples.prompts=1"),
    ),
    "evaluate": ("--set", "steps=1", "--set", "data=[{kind: mfsynth, url: out/mine}]"),
    "evaluate published": ("--set", "steps=1", "--set", "model={id: embedded}"),
    "calibrate": (
        *("--set", "checks={estimator_agreement: {}}", "--set", f"data={json.dumps([MINE])}"),
        *("--set", "held_out=null", "--set", "draws=20"),
        # What five images are enough for.
        *("--set", "alpha=0.8", "--set", "delta=0.8"),
    ),
}
# What pages say, and what stands for it here: small runs have few candidates.
INSTEAD: dict[str, str] = {
    "library=desk.yaml --out out/desk": "library=desk.yaml --out out/own_desk",
    "registration>=2": "registration>=-100",
    "flying_pixels<=0.3": "flying_pixels<=1",
    "reproduce out/mine 123": "reproduce out/mine 1",
    # Calibrations are of one size.
    "estimator.id=embedded": "estimator.id=embedded --set 'sampler={preset: distilled}'",
    "target={candidates: 1024}": "target={candidates: 4}",
    "target={candidates: 128}' --set sampler.steps=12": "target={candidates: 2}'",
    "source.scenes=256": "source.scenes=2",
    "--start 1000": "--start 1",
    "metric=true --set steps=1500": "metric=true --set steps=2",
    "/data/": "data/",
    "generate my.yaml --dry-run": f"generate my.yaml --dry-run {' '.join(_JOINING)}",
    # The cluster was there before the bucket, and has no key for it.
    "doctor my.yaml --out s3://bucket/kitchen": "doctor my.yaml --out out/kitchen",
    # Of a processor nobody is told what it costs on GPUs.
    "--from out/mine --gpus 64 --price 2.50": "--from out/mine",
    "convert bartduis/modality_forcing": "convert --text-encoder text_encoder released",
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
    "mfsynth train klein-4b": "ten seconds to count its operations; "
    "tests/training/test_requirements.py counts those of klein-4b-lora",
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


def joins_cluster(block: Block) -> bool:
    """Whether a command of a block wants a cluster to join."""
    return any(CLUSTER in word for _, meant in commands(block) for word in meant)


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


def follow(page: str, here: Mapping[str, str] = MappingProxyType({})) -> list[list[str]]:
    """Run what a page says in this folder.

    Args:
        page: Of the repository.
        here: What stands for `s3://bucket` and `CLUSTER`.

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
                run([_replaced(word, here) for word in meant])
                done.append(said)
    return done


def _replaced(word: str, here: Mapping[str, str]) -> str:
    for said, meant in here.items():
        word = word.replace(said, meant)
    return word


def _without_streams(words: list[str]) -> list[str]:
    ends = [at for at, word in enumerate(words) if word in ("2>", ">", "|")]
    return words[: ends[0]] if ends else words


def _made_here(drive: Any, config: RunConfig, **how: Any) -> Any:
    # A context of OpenGL serves one thread, and a worker has one for loading.
    gl_context.cache_clear()
    tiny_jobs.make(complete(config))
    gl_context.cache_clear()
    return drive(config, **how)
