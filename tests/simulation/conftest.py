"""What simulation tests share."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from mfsynth.prompts import Prompt
from mfsynth.simulation import TabletopScene, sample_scene


@pytest.fixture
def tabletop_slots() -> dict[str, object]:
    return {
        "objects": [{"colour": "red", "shape": "cube"}, {"colour": "blue", "shape": "ball"}],
        "table": "wooden",
        "light": "bright",
        "view": "from above",
    }


@pytest.fixture
def make_scene(tabletop_slots):
    """A scene of given slots; those not named are of a red cube and a blue ball."""

    def make(seed: int = 0, **slots: object) -> TabletopScene:
        return sample_scene(prompt_of({**tabletop_slots, **slots}), seed)

    return make


def prompt_of(slots: Mapping[str, object]) -> Prompt:
    return Prompt.from_text("objects on a table", slots)
