"""Checks of an image against its prompt, by networks: tiny ones with random weights."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_recognisers
import torch
from conftest_scenes import make_scene
from safetensors.torch import load_file, save_file

from mfsynth.checks import CheckedPair, open_checks, run_checks
from mfsynth.checks.prompt_objects import named_things
from mfsynth.checks.registry import load_checks, networks_of
from mfsynth.errors import MfsynthError
from mfsynth.models.recognition.catalogue import EMBEDDED_JUDGE
from mfsynth.models.recognition.judge import ObjectJudge
from mfsynth.models.recognition.opening import open_detector, open_text_image
from mfsynth.simulation import STYLES, render_dataset

DETECTORS = ["owl", "grounding_dino", "judge"]
SLOTS = {"colour": ("red", "blue"), "shape": ("cube", "ball"), "table": ("white",)}
THING = "{colour} {shape}"


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    made: dict[str, str] = {}

    def of(name: str) -> str:
        if name not in made:
            folder = tmp_path_factory.mktemp(name) / "model"
            made[name] = str(getattr(tiny_recognisers, name)(folder))
        return made[name]

    return of


def scores(name: str, settings: dict[str, Any], **given: Any) -> dict[str, float]:
    rgb, depth = make_scene(48)
    return run_checks(
        CheckedPair(rgb, depth, **given), load_checks({name: settings}).values()
    ).scores


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_the_score_is_the_cosine_of_image_and_prompt(network, name):
    settings = {"model": network(name)}
    found = [
        scores("prompt_agreement", settings, text=text)["prompt_agreement"]
        for text in ("a red cube", "a blue ball", "A Red CUBE")
    ]
    assert found[0] == found[2] != found[1]
    assert all(-1 <= cosine <= 1 for cosine in found)
    rgb, _ = make_scene(48)
    model = open_text_image(network(name), None)
    given = model.processor(text=["a red cube"], padding="max_length", return_tensors="pt")
    with torch.no_grad():
        texts = model.model.get_text_features(**given).pooler_output
        pixels = model.processor(images=rgb, return_tensors="pt")
        images = model.model.get_image_features(**pixels).pooler_output
    assert found[0] == pytest.approx(float(torch.cosine_similarity(images, texts)), abs=1e-5)


def test_a_limit_rejects_what_does_not_fit_and_long_prompts_are_cut(network):
    cosine = scores("prompt_agreement", {"model": network("clip")}, text="a red cube")
    rgb, depth = make_scene(48)
    pair = CheckedPair(rgb, depth, text="a red cube")
    for limit, accepted in ((-1, True), (min(1, cosine["prompt_agreement"] + 0.01), False)):
        checks = open_checks({"prompt_agreement": {"model": network("clip"), "min": limit}})
        assert run_checks(pair, checks.values()).accepted == accepted
    long = scores("prompt_agreement", {"model": network("clip")}, text="a red cube " * 100)
    assert math.isfinite(long["prompt_agreement"])


@pytest.mark.parametrize("text", [None, "", "  "])
def test_without_a_prompt_agreement_abstains(network, text):
    found = scores("prompt_agreement", {"model": network("clip")}, text=text)
    assert math.isnan(found["prompt_agreement"])


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (1, 30)])
def test_the_smallest_images_get_their_scores(network, shape):
    rgb, depth = (array[: shape[0], : shape[1]] for array in make_scene(48))
    settings = {
        "prompt_agreement": {"model": network("siglip")},
        "prompt_objects": {"model": network("judge"), "things": [THING]},
    }
    pair = CheckedPair(rgb, depth, text="a cube", slots=SLOTS)
    found = run_checks(pair, open_checks(settings).values()).scores
    assert all(math.isfinite(score) for score in found.values())


@pytest.mark.parametrize("name", DETECTORS)
def test_objects_are_found_by_their_confidence_each_by_itself(network, name):
    rgb, _ = make_scene(48)
    finder = open_detector(network(name), None)
    red, blue = finder.confidences(rgb, ["red cube", "blue ball"])
    assert 0 < red < 1 or name != "judge"
    assert finder.confidences(rgb, ["blue ball"]) == pytest.approx([blue], abs=1e-5)
    found = scores("prompt_objects", {"model": network(name), "things": [THING]}, slots=SLOTS)
    assert found["objects_confidence"] == pytest.approx(min(red, blue), abs=1e-5)
    between = (red + blue) / 2
    half = {"model": network(name), "things": [THING], "confidence": between}
    assert scores("prompt_objects", half, slots=SLOTS)["objects_found"] in (0.5, 1.0)


def test_a_thing_that_is_not_found_rejects_where_a_limit_says_so(network):
    rgb, depth = make_scene(48)
    settings = {"model": network("judge"), "things": [THING], "confidence": 1.0, "min_found": 0.5}
    verdict = run_checks(
        CheckedPair(rgb, depth, slots=SLOTS), open_checks({"prompt_objects": settings}).values()
    )
    assert [failure.score for failure in verdict.failures] == ["objects_found"]


def test_things_are_named_by_slots_that_were_taken_equally_often():
    assert named_things([THING], SLOTS) == ["red cube", "blue ball"]
    assert named_things(["{table} table", "{shape}"], SLOTS) == ["white table", "cube", "ball"]
    assert named_things(["{table} {shape}", "{tool}"], SLOTS) is None
    assert named_things(["{tool}"], SLOTS) == []
    assert named_things(["{colour}"], {"colour": ("red", "red")}) == ["red"]


@pytest.mark.parametrize("slots", [None, {}, {"colour": ("red",), "shape": ("spoon",)}])
def test_objects_abstain_where_no_thing_is_named_that_can_be_known(network, slots):
    found = scores("prompt_objects", {"model": network("judge"), "things": [THING]}, slots=slots)
    assert all(math.isnan(score) for score in found.values())


@pytest.mark.parametrize("thing", ["cube", "{}", "{0}", "{a.b}", "{colour", "{colour!r}", ""])
def test_a_thing_of_no_slots_is_refused(network, thing):
    with pytest.raises(MfsynthError, match=r"^checks\.prompt_objects\.things") as caught:
        open_checks({"prompt_objects": {"model": network("judge"), "things": [thing]}})
    assert "\n" not in str(caught.value)


def test_a_network_is_known_by_its_files_and_its_card(network, tmp_path):
    folder = tiny_recognisers.judge(tmp_path / "judge")
    checks = open_checks({"prompt_objects": {"model": str(folder), "things": [THING]}})
    before = networks_of(checks)["prompt_objects"]
    assert (before.id, before.licence) == (str(folder), "unknown")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    carded = networks_of(checks)["prompt_objects"]
    assert (carded.licence, carded.revision) == ("apache-2.0", before.revision)
    weights = load_file(folder / "diffusion_pytorch_model.safetensors")
    weights["colours.bias"] += 1
    save_file(weights, folder / "diffusion_pytorch_model.safetensors")
    assert networks_of(checks)["prompt_objects"].revision != before.revision
    assert networks_of(open_checks({"validity": {}})) == {}


def damaged(folder: Path) -> Path:
    """A judge that lacks a weight."""
    ObjectJudge(["red"], ["cube"], widths=(8, 8)).save_pretrained(folder)
    weights = load_file(folder / "diffusion_pytorch_model.safetensors")
    del weights["colours.bias"]
    save_file(weights, folder / "diffusion_pytorch_model.safetensors")
    return folder


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder, "no such folder"),
        (lambda folder: folder.mkdir() or folder, "holds no config.json"),
        (tiny_recognisers.clip, "is a CLIPModel; name a model of ObjectJudge, Owlv2"),
        (damaged, "not the weights of a ObjectJudge: 1 missing"),
    ],
)
def test_a_folder_of_something_else_is_one_line(tmp_path, make, message):
    place = tmp_path / "x"
    made = make(place)
    settings = {"prompt_objects": {"model": str(made), "things": [THING]}}
    with pytest.raises(MfsynthError, match=r"^checks\.prompt_objects: ") as caught:
        load_checks(settings)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_checks_are_imported_without_torch():
    code = "import sys, mfsynth.checks; print({'torch', 'transformers'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_judge_knows_what_it_is_shown_by_its_colours(network):
    judge = open_detector(network("judge"), None)
    rgb = np.zeros((40, 40, 3), np.uint8)
    assert judge.confidences(rgb, ["a big red cube"]) == judge.confidences(rgb, ["red cube"])
    unknown = judge.confidences(rgb, ["cube", "red thing", "red blue cube"])
    assert all(math.isnan(one) for one in unknown)


def test_the_judge_that_comes_with_the_package_finds_what_scenes_were_rendered_from(tmp_path):
    pytest.importorskip("mujoco")
    scenes = render_dataset(
        tmp_path,
        scenes=16,
        views=1,
        size=64,
        seed=1001,
        library="tabletop_shapes",
        style=STYLES["close"],
    )
    judge = open_detector(EMBEDDED_JUDGE, None)
    named = [re.findall(r"(\w+ (?:cube|ball|cylinder|cone|bowl))\b", c) for c in scenes.captions]
    own, others = (
        [
            sure > 0.5
            for rgb, things in zip(scenes.rgb, of, strict=True)
            for sure in judge.confidences(rgb, things)
        ]
        for of in (named, named[1:] + named[:1])
    )
    assert np.mean(own) > 0.8
    assert np.mean(others) < 0.3


def test_a_thing_that_the_network_can_not_know_is_not_taken_for_found(network):
    settings = {"model": network("judge"), "things": ["{colour} {shape}"], "min_found": 1.0}
    slots = {"colour": ("red", "magenta"), "shape": ("cube", "teapot")}
    rgb, depth = make_scene(48)
    for on_abstain, accepted in (("pass", True), ("reject", False)):
        checks = open_checks({"prompt_objects": settings | {"on_abstain": on_abstain}})
        verdict = run_checks(CheckedPair(rgb, depth, slots=slots), checks.values())
        assert math.isnan(verdict.scores["objects_found"])
        assert verdict.accepted == accepted
