"""`mfsynth calibrate`, from trusted pairs to a file that a run names."""

from __future__ import annotations

import json
import math
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tiny_recognisers
import tiny_run

from mfsynth.checks import Check, Score, open_checks, registry
from mfsynth.checks.calibration_files import CalibrationFile
from mfsynth.cli import main
from mfsynth.config.resources import resource_names
from mfsynth.errors import MfsynthError
from mfsynth.evaluation.calibration import calibrate as calibration
from mfsynth.evaluation.calibration.config import load_calibrate_config
from mfsynth.evaluation.calibration.corruptions import CORRUPTIONS
from mfsynth.runs.settings import load_run_config

REAL = {
    "kind": "folder",
    "layout": "generic",
    "path": str(Path(__file__).parents[1] / "data" / "real_rgbd"),
    "images": "*/*.rgb.jpg",
    "depths": "*/*.depth.png",
    "codes_per_unit": 1000.0,
    "crops": 2,
}
# As many images as the frames are, for limits on two scores.
LOOSE = {"alpha": 0.5, "delta": 0.6}


class Opinion(Check):
    """How far depth is from what an estimator says."""

    max_difference: float = 0.5
    inputs = ("depth", "estimate")
    scores = (Score("opinion", "opinion", "lower", "median", limit="max_difference"),)

    def measure(self, pair):
        estimate = pair.estimate.depth_like(pair.depth)
        shared = (pair.depth > 0) & (estimate > 0)
        ratio = estimate[shared] / pair.depth[shared]
        return {"opinion": float(np.median(np.abs(np.log(ratio))))}


class Lens(Check):
    """The field of view."""

    min_focal: float = 0.0
    inputs = ("depth", "intrinsics")
    scores = (Score("lens", "lens", "lower", "focal length in pixels", limit="min_focal"),)

    def measure(self, pair):
        return {"lens": pair.intrinsics.fx}


class Levels(Check):
    """Says nothing of depth that has many values."""

    max: float = 0.4
    inputs = ("depth",)
    scores = (Score("levels", "levels", "lower", "bad with few values", limit="max"),)

    def measure(self, pair):
        return {"levels": math.nan if len(np.unique(pair.depth)) > 70 else 0.9}


@pytest.fixture
def more_checks(monkeypatch):
    own = {**registry.BUILT_IN, "opinion": Opinion, "lens": Lens, "levels": Levels}
    monkeypatch.setattr(registry, "BUILT_IN", own)


@pytest.fixture
def calibrate(capsys, tmp_path):
    """Calibrates on small windows of the real frames, unless told otherwise."""

    def run(*arguments, checks=("flying_pixels",), data=(REAL,), out="found.json", **settings):
        values = {
            "checks": checks if isinstance(checks, dict) else {name: {} for name in checks},
            "data": list(data),
            "held_out": None,
            "estimator": None,
            "draws": 20,
            **settings,
        }
        given = [f"--set={key}={json.dumps(value)}" for key, value in values.items()]
        with pytest.raises(SystemExit) as ended:
            main(["calibrate", "--out", str(tmp_path / out), *given, *map(str, arguments)])
        return ended.value.code or 0, capsys.readouterr()

    return run


def error(shown):
    (line,) = [line for line in shown.err.splitlines() if line.startswith("error: ")]
    return line


def test_what_a_run_rejects_is_counted_by_all_limits_that_it_has(calibrate, more_checks, tmp_path):
    status, shown = calibrate(
        checks=("flying_pixels", "levels"), held_out=[REAL], alpha=0.7, delta=0.8
    )
    assert status == 0, shown.err
    found = CalibrationFile.model_validate_json((tmp_path / "found.json").read_text())
    assert "levels" not in found.limits
    assert found.checks["levels"]["max"] == 0.4
    rows = {row["corruption"]: row for row in found.figures["held_out"]["corruptions"]}
    assert rows["64 levels"]["rejected"] == rows["64 levels"]["pairs"] == 5


def test_a_run_names_what_it_writes(calibrate, tmp_path):
    status, shown = calibrate(held_out=[REAL | {"limit": 2}], **LOOSE)
    assert status == 0
    path = tmp_path / "found.json"
    found = CalibrationFile.model_validate_json(path.read_text())
    assert {*found.limits} == {"fused", "flying_pixels"}
    assert found.guarantee.images == 4
    assert found.checks == {"flying_pixels": {"max": found.limits["flying_pixels"]}}
    [trusted, held_out] = found.sources
    assert (trusted["images"], trusted["pairs"], held_out["images"]) == (5, 10, 2)
    assert trusted["settings"]["codes_per_unit"] == 1000.0
    assert trusted["sha256"] != held_out["sha256"]
    assert found.figures["held_out"]["clean_pairs"] == 2
    names = [row["corruption"] for row in found.figures["corruptions"]]
    assert names == [one.name for one in CORRUPTIONS if one.spoils == "depth"]
    for row in found.figures["corruptions"]:
        for score in row["scores"].values():
            for value, low, high in (score["auc"], score["tpr"]):
                assert 0 <= low <= high <= 1
                assert 0 <= value <= 1

    table, plot = path.with_suffix(".md").read_text(), path.with_suffix(".svg").read_text()
    assert table.strip() in shown.out
    assert "all such limits together reject at most 0.5 of pairs like the 4 trusted ones" in table
    shown_rows = [node.text for node in ElementTree.fromstring(plot) if node.text]
    assert shown_rows.count("other sample's depth") == 1
    assert "pper bound" not in table + plot

    run = load_run_config("local", [f"checks.calibration={path}", "checks.flying_pixels={}"])
    assert run.checks["flying_pixels"]["max"] == found.limits["flying_pixels"]
    assert run.checks["calibration"]["max_fused"] == found.limits["fused"]


@pytest.mark.usefixtures("opengl")
def test_scenes_are_rendered_and_their_views_are_one_draw(calibrate, tmp_path):
    render = {"library": "tabletop_shapes", "style": "close", "scenes": 5, "views": 2, "seed": 7}
    scenes = {"kind": "cached_scenes", "path": str(tmp_path / "scenes"), "render": render}
    status, shown = calibrate(data=[scenes], height=32, width=32, **LOOSE)
    assert status == 0, shown.err
    found = CalibrationFile.model_validate_json((tmp_path / "found.json").read_text())
    assert (found.figures["pairs"], found.figures["images"]) == (10, 5)
    assert found.figures["same_prompt"] == 10
    # One of the five fits the fused score.
    assert found.guarantee.images == 4
    assert found.sources[0]["settings"]["render"]["views"] == 2


def test_a_run_is_trusted_and_the_networks_that_are_asked_are_recorded(calibrate, tmp_path):
    url = str(tmp_path / "run")
    tiny_run.make_run(url)
    model = str(tiny_recognisers.clip(tmp_path / "clip"))
    checks = {"flying_pixels": {}, "prompt_agreement": {"model": model}}
    data = [{"kind": "mfsynth", "url": url}]
    status, shown = calibrate(checks=checks, data=data, height=24, width=32, alpha=None, delta=None)
    assert status == 0, shown.err
    found = CalibrationFile.model_validate_json((tmp_path / "found.json").read_text())
    assert (found.figures["pairs"], found.figures["images"]) == (8, 8)
    assert found.sources[0]["settings"]["url"] == url
    asked = open_checks(checks)["prompt_agreement"].network()
    assert found.networks == {"prompt_agreement": asked.revision}


def test_the_same_pairs_and_settings_make_the_same_file(calibrate, tmp_path):
    for out in ("one.json", "two.json"):
        assert calibrate(out=out, **LOOSE)[0] == 0
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    assert calibrate(out="two.json", seed=1, **LOOSE)[0] == 0
    assert (tmp_path / "one.json").read_bytes() != (tmp_path / "two.json").read_bytes()


def test_figures_without_limits_are_of_no_use_to_a_run(calibrate, tmp_path):
    assert calibrate(alpha=None, delta=None)[0] == 0
    with pytest.raises(MfsynthError, match="has figures, but no limits"):
        load_run_config("local", [f"checks.calibration={tmp_path / 'found.json'}"])


def test_too_few_images_are_told_with_how_many_are_needed(calibrate, tmp_path):
    status, shown = calibrate(checks=("flying_pixels", "validity"))
    assert status == 1
    assert error(shown) == (
        "error: data: 5 images are too few for limits on 5 scores at alpha 0.05 and delta 0.05: "
        "241 are needed; give more, a larger alpha or delta, fewer checks, or null for both for "
        "figures without limits"
    )
    assert not (tmp_path / "found.json").exists()


def test_a_stand_in_for_an_estimator_makes_upper_bounds(calibrate, more_checks, tmp_path):
    status, shown = calibrate("--estimator", "perturbed", checks=("opinion",), **LOOSE)
    assert status == 0
    path = tmp_path / "found.json"
    assert json.loads(path.read_text())["estimator"]["stands_in"] is True
    for text in (
        shown.out,
        path.with_suffix(".md").read_text(),
        path.with_suffix(".svg").read_text(),
    ):
        assert "Upper bounds: a perturbed copy" in text
    with pytest.raises(MfsynthError, match="a perturbed copy of trusted depth"):
        load_run_config("local", [f"checks.calibration={path}"])


def test_an_estimator_says_what_checks_look_at(calibrate, more_checks, tmp_path):
    assert calibrate("--estimator", "embedded", checks=("opinion",), **LOOSE)[0] == 0
    found = CalibrationFile.model_validate_json((tmp_path / "found.json").read_text())
    assert found.estimator.name == "embedded"
    assert len(found.estimator.revision) == 64
    by_name = {row["corruption"]: row["scores"] for row in found.figures["corruptions"]}
    assert by_name["inverted"]["opinion"]["auc"][0] > 0.7


def test_a_check_that_rejects_where_it_abstains_is_not_calibrated(calibrate):
    status, shown = calibrate(checks={"flying_pixels": {"on_abstain": "reject"}})
    assert status == 1
    assert error(shown).startswith("error: checks.flying_pixels.on_abstain: reject, but no limit")


def test_the_camera_is_spoilt_where_a_check_looks_at_it(calibrate, more_checks, tmp_path):
    stored = {key: value for key, value in REAL.items() if key != "codes_per_unit"}
    camera = {"fx": 600.0, "fy": 600.0, "cx": 319.5, "cy": 239.5}
    with_camera = stored | {"encoding": {"codes_per_unit": 1000.0, "camera": camera}}
    assert calibrate(checks=("lens",), data=[with_camera], **LOOSE)[0] == 0
    found = CalibrationFile.model_validate_json((tmp_path / "found.json").read_text())
    by_name = {row["corruption"]: row["scores"] for row in found.figures["corruptions"]}
    # The longer one is what this check turns down.
    assert by_name["focal length ×1.4"]["lens"]["auc"][0] == 1.0
    assert by_name["focal length ÷1.4"]["lens"]["auc"][0] == 0.0

    # Pairs without a camera: the check says nothing of them, and there is no camera to spoil.
    status, shown = calibrate(checks=("lens",), **LOOSE)
    assert status == 1
    assert error(shown).startswith("error: checks: none tells clean pairs from spoilt ones")
    assert calibrate(checks=("lens",), alpha=None, delta=None)[0] == 0
    table = (tmp_path / "found.md").read_text()
    assert "focal length" not in table


@pytest.mark.parametrize(
    ("checks", "problem"),
    [
        (("self_agreement",), "checks.self_agreement: looks at joint_depth, which trusted pairs"),
        (("calibration",), "checks.calibration: is what this makes; leave it out"),
        (("hue",), "checks.hue: there is no such check here"),
        ((), "checks: none; name those that the run has"),
        (
            ("opinion",),
            "checks.opinion: looks at what an estimator says; set estimator to embedded",
        ),
    ],
)
def test_checks_that_cannot_be_measured_are_told_in_one_line(
    calibrate, more_checks, checks, problem
):
    status, shown = calibrate(checks=checks)
    assert status == 1
    assert error(shown).startswith(f"error: {problem}")


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"alpha": None}, "give both alpha and delta"),
        ({"alpha": 1.0}, "alpha: must be below 1"),
        ({"data": []}, "data: "),
        ({"alpha": None, "delta": None, "held_out": [REAL]}, "held_out is counted by limits"),
        ({"estimator": "embedded"}, "estimator: embedded, but no check looks at what it says"),
        ({"data": [REAL | {"limit": 3}], "alpha": 0.9, "delta": 0.9}, "data: 3 images are too few"),
        ({"data": [REAL | {"path": "/no/such"}]}, "/no/such: no such folder of images"),
        ({"data": [REAL | {"limit": 1}], "alpha": None, "delta": None}, "data: one image alone"),
    ],
)
def test_a_wrong_setting_is_told_in_one_line(calibrate, settings, problem):
    status, shown = calibrate(**settings)
    assert status == 1
    assert problem in error(shown)


@pytest.mark.parametrize(
    ("out", "problem"),
    [
        ("s3://bucket/found.json", "--out: must be a path of this machine, not a URL"),
        ("found.yaml", "--out: must end in .json"),
        ("taken/found.json", "taken can't be written to (Not a directory)"),
    ],
)
def test_what_can_not_be_written_to_is_told_before_anything_is_measured(
    capsys, monkeypatch, tmp_path, out, problem
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").touch()
    monkeypatch.setattr(calibration, "calibrate", None)
    with pytest.raises(SystemExit) as ended:
        main(["calibrate", "--out", out])
    assert ended.value.code == 1
    assert problem in error(capsys.readouterr())
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_no_command_writes_a_file_of_this_machine_by_a_url(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for command in (
        ["report", "run", "--out"],
        ["reproduce", "run", "0", "--out"],
        ["view", "run", "--save"],
    ):
        with pytest.raises(SystemExit) as ended:
            main([*command, "s3://bucket/there"])
        assert ended.value.code == 2
        assert "must be a path of this machine, not a URL" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


def test_every_shipped_calibration_is_valid():
    assert resource_names("configs/calibrate") == ("images", "simulator")
    shipped = load_calibrate_config("simulator", output="elsewhere.json", estimator="perturbed")
    assert (shipped.output, shipped.estimator) == (Path("elsewhere.json"), "perturbed")
    assert load_calibrate_config("images").alpha is None


def test_the_calibration_of_measured_frames_runs_as_it_is(monkeypatch, tmp_path):
    # As `make bench` runs it.
    monkeypatch.chdir(Path(__file__).parents[2])
    out = tmp_path / "real.json"
    with pytest.raises(SystemExit, match=r"^0$"):
        main(
            [
                "calibrate",
                "benchmarks/real_frames.yaml",
                "--set",
                "data.0.crops=1",
                "--out",
                str(out),
            ]
        )
    assert "5 pairs of 5 images" in out.with_suffix(".md").read_text()
