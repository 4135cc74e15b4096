"""What README and tutorial say is done, and the Python of all pages, on small runs.

Commands are those of the pages, in their order; a run makes four candidates in two steps, a
training takes two steps. What is only parsed, and why, is in `PARSED`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fenced import Block, blocks, of_page
from PIL import Image

# Commands of the two pages that are not run here: their options are parsed.
PARSED = {
    "doctor": "starts Ray to ask it; tests/runs does",
    "push": "sends to the hub; tests/cli does, without it",
    "view": "wants the extra view",
    "annotate": "a run like the others; tests/runs does",
    "retexture": "a run like the others; tests/runs does",
}
_LOOSE = "{validity: {min_valid_fraction: 0, min_dynamic_range: 1}, registration: {min: -100}}"
# What makes a command small, after what the page says.
_SMALL = {
    "generate": [
        *("--set", "target.candidates=4", "--set", "shard_size=4", "--set", "sampler.steps=2"),
        *("--set", f"checks={_LOOSE}", "--set", "runtime.workers=1"),
    ],
    "train": ["--set", "steps=2", "--set", "batch_size=2", "--set", "warmup_steps=1"],
}
# What a page says of things that aren't here, and what stands for it.
_INSTEAD = {
    "s3://bucket/mine": "out/copied",
    "registration>=2": "registration>=-100",
    "out/demo": "out/mine",
}
_IN_ONE_PROCESS = """
import json, sys
from mfsynth.cli import main
for words in json.load(sys.stdin):
    print("$", *words, flush=True)
    try:
        main(words)
    except SystemExit as end:
        if end.code:
            sys.exit(f"{words} ended with {end.code}")
"""


def run(commands: list[list[str]], folder: Path) -> None:
    """Run commands of mfsynth in a folder, one after the other."""
    done = subprocess.run(
        [sys.executable, "-c", _IN_ONE_PROCESS],
        input=json.dumps(commands),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def small(words: list[str]) -> list[str]:
    """A command of a page, made small."""
    kept = [_INSTEAD.get(word, word) for word in words]
    if kept[0] == "generate" and "--pairs" in kept:
        at = kept.index("--pairs")
        kept = kept[:at] + kept[at + 2 :]
    return kept + _SMALL.get(kept[0], [])


def commands_of(page: str) -> list[list[str]]:
    return [
        small(words[1:])
        for block in of_page(page)
        if block.language == "sh"
        for words in block.commands()
        if words[0] == "mfsynth" and words[1] not in PARSED
    ]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder in which the tutorial, then the README has been followed."""
    folder = tmp_path_factory.mktemp("reader")
    for block in of_page("docs/tutorial.md"):
        if block.language == "yaml":
            (folder / block.file).write_text(block.text)
    run(commands_of("docs/tutorial.md") + commands_of("README.md"), folder)
    (folder / "photographs").mkdir()
    for number in range(2):
        picture = np.full((32, 48, 3), 40 * number, np.uint8)
        Image.fromarray(picture).save(folder / "photographs" / f"{number}.jpg")
        (folder / "photographs" / f"{number}.txt").write_text(f"picture {number}")
    return folder


def test_the_commands_of_tutorial_and_readme_do_what_they_say(place):
    for file in (
        *("out/desk/report.html", "out/desk_network/model/diffusion_pytorch_model.safetensors"),
        *("out/desk/_views/strict.json", "out/desk_test/run.json"),
        *("out/mine/report.html", "out/mine/manifest.json", "out/mine/_views/strict.json"),
        *("out/copied/run.json", "out/hf/README.md"),
    ):
        assert (place / file).is_file(), file


def _pipe() -> Any:
    """The embedded model's pipeline, in two steps."""
    from mfsynth.config import ModelConfig
    from mfsynth.models import load_pipeline

    pipe = load_pipeline(ModelConfig(), device="cpu")

    def call(*given: Any, **named: Any) -> Any:
        return pipe(*given, **{"num_inference_steps": 2, **named})

    class Small:
        transformer = pipe.transformer
        __call__ = staticmethod(call)

    return Small()


def _pair() -> dict[str, Any]:
    image = np.full((64, 64, 3), 90, np.uint8)
    return {"pair": SimpleNamespace(rgb=image)}


def _distributed() -> dict[str, Any]:
    import torch

    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group(
            "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
        )
    return {"torch": torch, "url": "out/mine", "train": len}


def _camera() -> dict[str, Any]:
    matrix = np.array([[60.0, 0, 31.5], [0, 60.0, 31.5], [0, 0, 1]])
    return {
        **{"sample": SimpleNamespace(intrinsics=matrix), "width": 64, "top": 2, "left": 4},
        **{"scale_y": 0.5, "scale_x": 0.5, "depth": np.ones((64, 64), np.float32)},
    }


def _seen() -> dict[str, Any]:
    rgb = np.full((1, 64, 64, 3), 90, np.uint8)
    return {"rgb": rgb, "depth": np.ones((64, 64), np.float32)}


def _measured() -> dict[str, Any]:
    from mfsynth.geometry import Intrinsics

    intrinsics = np.array([[60.0, 0, 31.5], [0, 60.0, 31.5], [0, 0, 1]])
    rgb = np.full((64, 64, 3), 90, np.uint8)
    return {
        "depth": np.ones((64, 64), np.float32),
        "rgb": rgb,
        "intrinsics": Intrinsics.from_matrix(intrinsics),
        "np": np,
    }


# What the Python of a page takes for granted.
GIVEN: dict[str, Callable[[], dict[str, Any]]] = {
    "docs/how-to/estimators.md": _seen,
    "docs/how-to/loading.md": _distributed,
    "docs/reference/cameras.md": _camera,
    "docs/reference/sampling.md": lambda: {"pipe": _pipe(), "prompts": ["a cube"], "seeds": [0]},
    "docs/reference/sensors.md": _measured,
    "docs/results/embedded_model.md": _pair,
}
# What is another thing here, by page.
REPLACED: dict[str, dict[str, str]] = {
    "README.md": {
        **{"out/demo": "out/mine", "registration > 1": "registration > -100"},
        "batch_size=16": "batch_size=2",
    },
    "docs/how-to/loading.md": {
        "s3://bucket/kitchen": "out/mine",
        "registration > 2 and 'mug' in dish": "registration > -100 or 'mug' in shape",
        '{"train": 0.9, "val": 0.1}': '{"train": 1.0}',
        "batch_size=32": "batch_size=1",
        "num_workers=4": "num_workers=0",
        "pin_memory=True": "pin_memory=False",
    },
    "docs/how-to/exports.md": {"out/demo": "out/mine", "s3://bucket/mine": "out/desk"},
    "docs/how-to/own-model.md": {"seeds=[0]": "seeds=[0], num_inference_steps=2"},
}
PYTHON = [
    block for block in blocks("python") if not block.not_run and "LOCAL_RANK" not in block.text
]


def test_the_loop_to_copy_trains_to_its_end(place):
    (loop,) = [block.text for block in blocks("python") if "LOCAL_RANK" in block.text]
    for written, here in {
        **{"out/demo": "out/mine", '{"train": 0.9, "val": 0.1}': '{"train": 1.0}'},
        **{"batch_size=4": "batch_size=2", "loader.epoch < 10": "loader.epoch < 2"},
    }.items():
        assert written in loop
        loop = loop.replace(written, here)
    (place / "loop.py").write_text(loop)
    ranks = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    head = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    subprocess.run(
        [sys.executable, "loop.py"], cwd=place, env={**os.environ, **ranks, **head}, check=True
    )
    assert (place / "last.pt").is_file()


@pytest.mark.parametrize("page", dict.fromkeys(block.page for block in PYTHON))
def test_the_python_of_a_page_runs_from_top_to_bottom(page, place, monkeypatch):
    monkeypatch.chdir(place)
    module = ModuleType("page")
    # Dataclasses look their module up.
    monkeypatch.setitem(sys.modules, "page", module)
    names = vars(module)
    names.update(GIVEN.get(page, dict)())
    found: list[Block] = [block for block in PYTHON if block.page == page]
    for block in found:
        text = block.text
        for written, here in REPLACED.get(page, {}).items():
            text = text.replace(written, here)
        exec(compile("\n" * (block.line - 1) + text, page, "exec"), names)
    SEEN.get(page, lambda names: None)(names)


def _brightness(names: dict[str, Any]) -> None:
    dark = np.zeros((8, 8, 3), np.uint8)
    check = names["Brightness"](min=0.2)
    pair = names["CheckedPair"](dark, np.ones((8, 8), np.float32))
    scores = check.measure(pair)
    assert [failure.score for failure in check.failures(pair, scores)] == ["brightness"]


def _beside(names: dict[str, Any]) -> None:
    source = names["BesideSettings"](kind="beside", path="photographs").open()
    assert [source[number].text for number in range(len(source))] == [*source.texts()]


SEEN: dict[str, Callable[[dict[str, Any]], None]] = {
    "docs/how-to/own-check.md": _brightness,
    "docs/how-to/own-source.md": _beside,
    "docs/tutorial.md": lambda names: _finite(names["errors"]),
}


def _finite(errors: list[float]) -> None:
    assert errors
    assert np.isfinite(errors).all()


@pytest.fixture(autouse=True, scope="module")
def _no_group_is_left() -> Iterator[None]:
    yield
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
