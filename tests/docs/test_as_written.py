"""The Python of all pages is run, on small runs; `test_commands_as_written.py` runs commands."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fenced import Block, blocks

from mfsynth.shards.labels import Moment
from mfsynth.sources.base import labels_of
from mfsynth.sources.contents import content_digest, named


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


def test_every_replacement_is_of_something_that_a_page_says():
    said = {page: [block.text for block in PYTHON if block.page == page] for page in REPLACED}
    for page, table in REPLACED.items():
        assert [old for old in table if not any(old in text for text in said[page])] == [], page


def _brightness(names: dict[str, Any]) -> None:
    dark = np.zeros((8, 8, 3), np.uint8)
    check = names["Brightness"](min=0.2)
    pair = names["CheckedPair"](dark, np.ones((8, 8), np.float32))
    scores = check.measure(pair)
    assert [failure.score for failure in check.failures(pair, scores)] == ["brightness"]


def _beside(names: dict[str, Any]) -> None:
    source = names["BesideSettings"](kind="beside", path="photographs").open()
    assert [source[number].text for number in range(len(source))] == [*source.texts()]


def _episode(names: dict[str, Any]) -> None:
    """As a run does: items by name and place in an episode, the source by what it holds."""
    _beside(names)
    digests = []
    for folder in ("photographs", "moved"):
        if folder == "moved":
            shutil.copytree("photographs", folder, dirs_exist_ok=True)
        settings = names["EpisodeSettings"](kind="beside", path=folder)
        source = named(settings.open(), settings.kind)
        digests.append(content_digest(settings, source))
    assert digests[0] == digests[1]
    assert source.key(1) == "1.jpg"
    assert labels_of(source) == ("episode",)
    assert source.moment(1) == Moment("walk", 1)
    (Path("moved") / "1.jpg").write_bytes(b"another")
    assert content_digest(settings, settings.open()) != digests[1]


SEEN: dict[str, Callable[[dict[str, Any]], None]] = {
    "docs/how-to/own-check.md": _brightness,
    "docs/how-to/own-source.md": _episode,
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
