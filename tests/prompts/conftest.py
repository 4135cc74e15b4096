from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mfsynth.prompts import Grammar, load_library


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], str]:
    """Write a file into the test's folder and give its path."""

    def _write(name: str, text: str) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return str(path)

    return _write


@pytest.fixture
def grammar(write: Callable[[str, str], str]) -> Callable[..., Grammar]:
    """A grammar of the given templates and slots."""

    def _grammar(templates: list[Any], seed: int = 0, **slots: Any) -> Grammar:
        document = {"templates": templates, "slots": slots}
        return load_library(write("library.yaml", yaml.safe_dump(document, sort_keys=False)), seed)

    return _grammar
