"""A scene's description follows its prompt, and is a pure function of prompt and seed."""

from __future__ import annotations

import colorsys
import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfsynth.errors import MfsynthError
from mfsynth.prompts import Prompt, load_library
from mfsynth.simulation import sample_scene, scenes
from mfsynth.simulation.scene import COLOURS, LIGHTS, TABLES
from mfsynth.simulation.scene_sampling import place_objects
from mfsynth.simulation.styles import SHAPES, VIEWS

KINDS = [{"colour": c, "shape": s} for c, s in itertools.product(COLOURS, SHAPES)]
SLOTS = st.fixed_dictionaries(
    {
        "objects": st.lists(st.sampled_from(KINDS), min_size=1, max_size=4),
        "table": st.sampled_from(list(TABLES)),
        "light": st.sampled_from(list(LIGHTS)),
        "view": st.sampled_from(list(VIEWS)),
    }
)


def scene_of(slots, seed):
    return sample_scene(Prompt.from_text("a scene", slots), seed)


@settings(deadline=None)
@given(SLOTS, st.integers(0, 2**63 - 1), st.integers(0, 5))
def test_objects_never_stand_in_each_other(slots, seed, placement):
    objects = place_objects(scene_of(slots, seed), placement).objects
    for a, b in itertools.combinations(objects, 2):
        assert math.dist((a.x, a.y), (b.x, b.y)) >= a.footprint + b.footprint


@settings(deadline=None)
@given(SLOTS, st.integers(0, 2**63 - 1))
def test_a_scene_has_what_its_prompt_names(slots, seed):
    scene = scene_of(slots, seed)
    assert [{"colour": o.colour, "shape": o.shape} for o in scene.objects] == slots["objects"]
    assert (scene.table, scene.light, scene.view) == (slots["table"], slots["light"], slots["view"])
    assert scene.caption == "a scene"


@settings(deadline=None)
@given(SLOTS, st.integers(0, 2**63 - 1))
def test_the_same_prompt_and_seed_give_the_same_scene(slots, seed):
    assert scene_of(slots, seed) == scene_of(slots, seed)


@settings(deadline=None)
@given(SLOTS, st.integers(0, 2**63 - 1))
def test_a_shade_has_the_hue_of_its_own_colour(slots, seed):
    hues = {name: colorsys.rgb_to_hsv(*rgb)[0] for name, rgb in COLOURS.items()}
    coloured = {name: hue for name, hue in hues.items() if name not in ("white", "black")}
    for item in scene_of(slots, seed).objects:
        hue, _, value = colorsys.rgb_to_hsv(*item.rgb)
        if item.colour in coloured:
            apart = {name: abs((hue - h + 0.5) % 1 - 0.5) for name, h in coloured.items()}
            assert item.colour == min(apart, key=apart.__getitem__)
        else:
            assert (value > 0.5) == (item.colour == "white")


@settings(deadline=None)
@given(SLOTS, st.integers(0, 2**63 - 1))
def test_objects_are_of_a_size_that_a_hand_can_hold(slots, seed):
    for item in scene_of(slots, seed).objects:
        assert 0.015 <= item.height <= 0.13
        assert 0.05 <= 2 * item.radius <= 0.14


def test_a_room_is_furnished_only_where_a_prompt_names_it(tabletop_slots):
    bare = [scene_of(tabletop_slots, seed) for seed in range(20)]
    assert not any(scene.clutter or scene.room.furniture for scene in bare)
    furnished = [scene_of({**tabletop_slots, "room": "kitchen"}, seed) for seed in range(20)]
    assert any(scene.clutter for scene in furnished)
    assert any(scene.room.furniture for scene in furnished)
    assert {scene.room.style.wall for scene in furnished} == {"tiled"}
    for scene in furnished:
        for block in (*scene.clutter, *scene.room.furniture):
            assert math.hypot(block.x, block.y) > 0.25


def test_another_seed_gives_another_scene(make_scene):
    assert make_scene(seed=1) != make_scene(seed=2)


def test_another_placement_moves_the_same_objects(make_scene):
    scene = make_scene()
    moved = place_objects(scene, 1)
    assert [o.rgb for o in moved.objects] == [o.rgb for o in scene.objects]
    assert [(o.x, o.y) for o in moved.objects] != [(o.x, o.y) for o in scene.objects]


def test_a_scene_of_a_library_does_not_depend_on_the_others():
    library = load_library("tabletop", seed=3)
    together = dict(scenes(library, 5, range(4)))
    assert list(scenes(library, 5, [2])) == [(2, together[2])]
    assert together[0] != together[1]


def test_a_scene_of_a_library_shows_the_prompt_of_its_number():
    library = load_library("tabletop", seed=3)
    for index, scene in scenes(library, 5, range(20)):
        prompt = library.prompt(index)
        assert scene.caption == prompt.text
        for item in scene.objects:
            assert f"{item.colour} {item.shape}" in scene.caption


@pytest.mark.parametrize("slot", ["objects", "table", "light", "view"])
def test_a_missing_slot_is_named(slot, tabletop_slots):
    del tabletop_slots[slot]
    with pytest.raises(MfsynthError, match=f"slot {slot} is None"):
        scene_of(tabletop_slots, 0)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"table": "glass"}, "table"),
        ({"view": 3}, "view"),
        ({"objects": []}, "objects"),
        ({"objects": "cube"}, "objects"),
        ({"objects": [{"colour": "red", "shape": "cube"}] * 5}, "objects"),
        ({"objects": ["cube"]}, r"objects\[0\]"),
        ({"objects": [{"colour": "beige", "shape": "cube"}]}, r"objects\[0\]\.colour"),
        ({"objects": [{"colour": "red", "shape": "duck"}]}, r"objects\[0\]\.shape"),
        (
            {"objects": [{"colour": "red", "shape": "cube", "finish": "fluffy"}]},
            r"objects\[0\]\.finish",
        ),
        ({"room": "cave"}, "room"),
    ],
)
def test_a_slot_that_the_simulator_does_not_know_is_named(change, name, tabletop_slots):
    with pytest.raises(MfsynthError, match=f"slot {name} is .* use the prompt library tabletop"):
        scene_of({**tabletop_slots, **change}, 0)


def test_a_prompt_without_slots_is_refused():
    with pytest.raises(MfsynthError, match="is no tabletop scene"):
        sample_scene(Prompt.from_text("a cat"), 0)
