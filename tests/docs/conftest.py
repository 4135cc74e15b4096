"""A reader who has followed the tutorial, and has made the run that most pages are about."""

from __future__ import annotations

from pathlib import Path

import pytest
import reader
from furnishing import furnish


@pytest.fixture(scope="session")
def place(tmp_path_factory) -> Path:
    """Their folder. Tests may add to it, and change nothing that is there."""
    folder = tmp_path_factory.mktemp("reader")
    furnish(folder)
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        reader.follow("docs/tutorial.md")
        for line in (
            "mfsynth generate local --out out/mine",
            "mfsynth refilter out/mine --name strict --limit registration>=-100",
        ):
            reader.run(reader.small(line.split()))
    return folder
