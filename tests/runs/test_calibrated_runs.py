"""Runs that name a calibration: its limits, its fused score, and what they say of a wrong file."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import standin
import tiny_estimators
import tiny_recognisers

from mfsynth.checks import open_checks
from mfsynth.checks.calibration_files import CalibrationFile
from mfsynth.checks.registry import networks_of
from mfsynth.config import RunConfig, fingerprint
from mfsynth.config.cameras import CameraConfig
from mfsynth.config.estimators import DepthEstimatorConfig
from mfsynth.errors import MfsynthError
from mfsynth.evaluation.calibration.estimates import open_estimator
from mfsynth.models import ModelInfo
from mfsynth.models.estimators.catalogue import estimator_info
from mfsynth.runs.doctor.examination import checks_look
from mfsynth.runs.doctor.findings import Severity
from mfsynth.runs.estimator import run_estimator
from mfsynth.runs.items import RunItems
from mfsynth.runs.manifest import run_manifest
from mfsynth.runs.plan import RunPlan, recorded_config
from mfsynth.runs.protocol import Assignment, Made
from mfsynth.runs.settings import complete, load_run_config, run_fingerprint, run_scores
from mfsynth.shards.commits import commit, read_commits
from mfsynth.shards.documents.card import first_card
from mfsynth.shards.run_manifest import RunManifest, open_run
from mfsynth.shards.words import NO_GUARANTEE, limits_by_hand, loosened_limits
from mfsynth.storage.store import ObjectStore

RUN = {
    "name": "x",
    "target": {"candidates": 4},
    "shard_size": 4,
    "prompts": {"library": "tabletop"},
    "output": "out/x",
}
MODEL = ModelInfo(id="embedded", revision="revision", licence="apache-2.0", height=16, width=16)
TERM = {
    "score": "flying_pixels",
    "middle": 0.3,
    "low": 0.1,
    "high": 0.2,
    "below": [0.5, 0.0, 0.0],
    "above": [1.0, 0.5, 0.0],
}
FILE: dict[str, Any] = {
    "version": 1,
    "made_with": "mfsynth 0.1.0",
    "guarantee": {"alpha": 0.05, "delta": 0.1, "images": 240},
    "checks": {"registration": {"min": 0.7}, "flying_pixels": {"max": 0.5}},
    "limits": {"fused": 2.5, "registration": 0.7, "flying_pixels": 0.5},
    "terms": [TERM],
    "bias": -1.0,
    "estimator": None,
    "settings": {},
    "sources": [],
    "figures": {},
}


@pytest.fixture
def save(tmp_path):
    def _save(**changes: Any) -> str:
        path = tmp_path / "calibration.json"
        path.write_text(json.dumps(FILE | changes))
        return str(path)

    return _save


def config(calibration: Any, **checks: Any) -> RunConfig:
    values = RUN | {"checks": {"calibration": calibration, **checks}}
    return complete(RunConfig.model_validate(values))


def error(calibration: Any, **checks: Any) -> str:
    with pytest.raises(MfsynthError) as caught:
        config(calibration, **checks)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_run_has_the_checks_of_its_calibration_with_their_limits(save):
    found = config(save(), validity={})
    assert [*found.checks] == ["validity", "registration", "flying_pixels", "calibration"]
    assert found.checks["registration"] == {"min": 0.7}
    assert found.checks["flying_pixels"] == {"max": 0.5}
    assert found.checks["validity"]["min_valid_fraction"] == 0.5
    infos = run_scores(found)
    assert [*infos][-1] == "fused"
    assert infos["fused"].limit == 2.5


def test_no_file_is_needed_where_the_configuration_is_known(save, tmp_path):
    found = config(save())
    (tmp_path / "calibration.json").unlink()
    stored = json.loads(json.dumps(recorded_config(found)))
    assert complete(RunConfig.model_validate(stored)) == found
    assert str(tmp_path) not in json.dumps(stored["checks"])


def test_a_limit_that_a_run_gives_itself_wins(save):
    found = config({"path": save(), "max_fused": 9.0}, registration={"min": 1.25})
    infos = run_scores(found)
    limits = {name: info.limit for name, info in infos.items()}
    assert limits == {"registration": 1.25, "flying_pixels": 0.5, "fused": 9.0}
    # It is loosened against the calibration, whatever the check's own default is.
    assert infos["registration"].default_limit == 0.7
    assert loosened_limits(infos) == ["all scores together at most 9, by default at most 2.5"]


def test_a_run_says_which_limits_are_calibrated(save):
    found = config(save(), registration={"min": 1.25}, validity={})
    notes = {name: info.note for name, info in run_scores(found).items()}
    said = "; limit calibrated on 240 trusted images (alpha 0.05, delta 0.1)"
    marked = {name for name, note in notes.items() if note.endswith(said)}
    assert marked == {"flying_pixels", "fused"}


def test_limits_by_hand_beside_a_calibration_are_told_at_the_start(save):
    seen = checks_look(config(save(), registration={"min": 20}, validity={}))
    assert seen.severity is Severity.NOTE
    words = "registration at least 20, calibrated at least 0.7"
    assert seen.seen == f"{words}: set by hand, and {NO_GUARANTEE}"
    looser = config(save(), registration={"min": 0.1})
    assert limits_by_hand(run_scores(looser), {"checks": looser.checks}) == [
        "registration at least 0.1, calibrated at least 0.7"
    ]
    strict = config(save(), flying_pixels={"on_abstain": "reject"})
    assert limits_by_hand(run_scores(strict), {"checks": strict.checks}) == [
        "flying_pixels rejects where it abstains"
    ]
    assert checks_look(config(save())).severity is Severity.OK


def test_the_file_is_part_of_the_fingerprint(save):
    def digest(**changes: Any) -> str:
        return run_fingerprint(config(save(**changes)), "p", "r").digest

    assert digest() == digest()
    assert digest() != digest(made_with="mfsynth 0.1.1")


def test_runs_without_a_calibration_have_none():
    plain = complete(RunConfig.model_validate(RUN | {"checks": {"validity": {}}}))
    assert "calibration" not in json.dumps(fingerprint(plain, "p", "r").settings)


def test_a_configuration_names_a_file_by_its_path(save):
    [check] = [
        one
        for name, one in open_checks(
            load_run_config("local", [f"checks.calibration={save()}"]).checks
        ).items()
        if name == "calibration"
    ]
    assert check.max_fused == 2.5


def test_the_calibration_that_comes_with_mfsynth_is_of_the_estimator_that_does():
    config = load_run_config("local", ["checks={calibration: embedded}", "estimator.id=embedded"])
    assert run_estimator(complete(config)) is not None
    assert loosened_limits(run_scores(complete(config))) == []


def test_a_calibration_of_no_such_name_is_told_in_one_line():
    assert "'embeded': no such name in" in error("embeded")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"version": 2}, "not what `mfsynth calibrate` writes (version: must be 1, not 2)"),
        ({"terms": [{"score": "x"}]}, "(terms.0.middle: missing; add it)"),
        ({"limits": {}}, "has no limit for the fused score; calibrate anew"),
        ({"guarantee": None}, "has figures, but no limits"),
        (
            {"estimator": {"name": "perturbed", "stands_in": True}},
            "its estimates were a perturbed copy of trusted depth",
        ),
        (
            {"checks": {"registration": {"min": -100.0}}},
            "the limit of registration is 0.7, but checks.registration.min is -100.0, of which",
        ),
        ({"checks": {"no_such": {}}}, "has the check 'no_such', which is not there here"),
    ],
)
def test_a_file_that_is_no_use_is_told_in_one_line(save, changes, problem):
    found = error(path := save(**changes))
    assert found.startswith(f"checks.calibration: {path}: ")
    assert problem in found


@pytest.mark.parametrize("data", [b"", b'{"version": 1', b"\xff\xfe", b"[]"])
def test_a_damaged_file_is_told_in_one_line(save, tmp_path, data):
    path = save()
    (tmp_path / "calibration.json").write_bytes(data)
    assert "not what `mfsynth calibrate` writes" in error(path)


def test_a_calibration_that_is_not_there_is_told_in_one_line(tmp_path):
    assert "calibration not found; check the path" in error(str(tmp_path / "none.json"))


def test_a_run_of_other_settings_than_the_calibration_is_refused(save):
    path = save(checks={"self_agreement": {"max": 0.2, "steps": 10}})
    found = error(path, self_agreement={"steps": 20})
    assert found.startswith("checks.self_agreement.steps: 20, but the calibration was made with 10")


def test_a_run_has_the_estimator_that_its_calibration_was_made_with(save):
    def run(revision: str) -> RunConfig:
        used = {"name": "mine", "revision": revision, "stands_in": False}
        agreement = {"estimator_agreement": {"max_difference": 0.2}}
        path = save(estimator=used, checks=FILE["checks"] | agreement)
        values = RUN | {"checks": {"calibration": path}, "estimator": {"id": "embedded"}}
        return complete(RunConfig.model_validate(values))

    info = estimator_info(DepthEstimatorConfig())
    assert run_estimator(run(info.revision)) == info
    without = run(info.revision).model_copy(update={"estimator": None})
    with pytest.raises(MfsynthError, match=r"^checks.calibration: made with what mine says"):
        run_estimator(without)
    with pytest.raises(MfsynthError, match=r"calibration was made with mine \(other\);"):
        run_estimator(run("other"))


def test_a_run_has_its_estimator_in_the_precision_of_its_calibration(save):
    info = estimator_info(DepthEstimatorConfig())

    def run(dtype: str, used: dict[str, str]) -> RunConfig:
        path = save(estimator={"name": "embedded", "revision": info.revision, **used})
        checks = {"calibration": path, "ordinal_agreement": {}}
        estimator = {"id": "embedded", "dtype": dtype}
        return complete(RunConfig.model_validate(RUN | {"checks": checks, "estimator": estimator}))

    # A file that says nothing of it is of float32.
    assert run_estimator(run("float32", {})) == info
    assert run_estimator(run("bfloat16", {"dtype": "bfloat16"})) == info
    for dtype, used in (("bfloat16", {}), ("float32", {"dtype": "bfloat16"})):
        with pytest.raises(MfsynthError, match=rf"^estimator\.dtype: {dtype}, but .* was made in"):
            run_estimator(run(dtype, used))


def test_a_calibration_by_scores_that_left_out_infinity_is_refused(save, tmp_path):
    folder = str(tiny_estimators.dpt(tmp_path / "dpt"))
    info = estimator_info(DepthEstimatorConfig(id=folder))

    def run(**used: bool) -> RunConfig:
        path = save(estimator={"name": folder, "revision": info.revision, **used})
        checks = {"calibration": path, "ordinal_agreement": {}}
        values = RUN | {"checks": checks, "estimator": {"id": folder}}
        return complete(RunConfig.model_validate(values))

    found, _ = open_estimator(folder)
    assert found.model_dump()["counts_infinite"]
    assert "counts_infinite" not in open_estimator("embedded")[0].model_dump()
    assert run_estimator(run(counts_infinite=True)) == info
    with pytest.raises(MfsynthError, match=r"^checks\.calibration: .*; calibrate again$"):
        run_estimator(run())


def test_a_run_asks_the_networks_that_its_calibration_asked(save, tmp_path):
    folder = str(tiny_recognisers.clip(tmp_path / "clip"))
    checks = {"prompt_agreement": {"model": folder, "min": 0.1}}

    def run(**changes: Any) -> RunConfig:
        return config(save(checks=FILE["checks"] | checks, **changes))

    revision = networks_of(open_checks(checks))["prompt_agreement"].revision
    for same in ({}, {"networks": {"prompt_agreement": revision}}):
        assert run_scores(run(**same))["prompt_agreement"].limit == 0.1
    with pytest.raises(MfsynthError, match=r"^checks\.prompt_agreement: .* was made with other;"):
        run_scores(run(networks={"prompt_agreement": "other"}))


def test_a_calibration_with_cameras_for_a_run_without_is_told(save):
    planarity = {"planarity": {"max": 0.02}}
    changes = {"checks": FILE["checks"] | planarity, "limits": FILE["limits"] | {"planarity": 0.02}}
    values = RUN | {"checks": {"calibration": save(**changes), "ordinal_agreement": {}}}
    found = complete(RunConfig.model_validate(values | {"estimator": {"id": "embedded"}}))
    seen = checks_look(found, run_estimator(found))
    assert seen.severity is Severity.NOTE
    assert seen.seen == (
        "checks.planarity abstains: the run has no camera, and its estimator sees none; the "
        "calibration was made with cameras"
    )
    with_camera = found.model_copy(update={"camera": CameraConfig(preset="d435")})
    assert checks_look(with_camera, run_estimator(found)).severity is Severity.OK
    with_eyes = replace(run_estimator(found), gives_camera=True)
    assert checks_look(found, with_eyes).severity is Severity.OK


def test_a_run_makes_pairs_of_the_size_that_its_calibration_was_made_of(save):
    found = error(save(settings={"height": 512, "width": 640}))
    assert "made of pairs of 640x512 pixels, and the run makes 128x128; calibrate anew" in found
    assert config(save(settings={"height": 128, "width": 128})).checks["registration"]["min"] == 0.7


@pytest.mark.parametrize(
    "value",
    [{"limits": {"registration": 0.1}}, {"bias": 9.0}, {"sha256": "0" * 64}, {"maxfused": 1}],
)
def test_what_is_of_the_file_is_not_said_beside_it(save, value):
    path = save()
    assert config({"path": path, "max_fused": 1.0}).checks["calibration"]["max_fused"] == 1.0
    [key] = value
    assert error({"path": path, **value}) == (
        f"checks.calibration.{key}: comes from the file that path names; beside it may be "
        "max_fused and on_abstain, and a score's limit is set at its check"
    )


def test_a_check_that_the_fused_score_looks_at_stays_on(save):
    assert error(save(), registration=None).startswith("checks.registration: null, but the fused")


@pytest.mark.parametrize(("limit", "accepted"), [(1e9, 4), (-1e9, 0)])
def test_a_worker_rejects_by_the_fused_score(save, tmp_path, limit, accepted):
    open_limits = {"registration": {"min": -1e9}, "flying_pixels": {"max": 1.0}}
    path = save(
        checks=open_limits,
        limits={"registration": -1e9, "flying_pixels": 1.0, "fused": limit},
        bias=0.5,
    )
    values = RUN | {"checks": {"calibration": path}, "output": str(tmp_path / "run")}
    found = complete(RunConfig.model_validate(values))
    items = RunItems(found)
    store = ObjectStore.open(found.output)
    identity = items.fingerprint(MODEL.revision)
    manifest = run_manifest(found, identity, MODEL, items)
    open_run(store, manifest)
    worker = standin.open_standin(found, "cpu", behaviour=standin.Behaviour())
    candidates = RunPlan.of(found, items, identity.digest).shard(0)
    *_, end = worker.make_shard(Assignment(0, "attempt", batch_size=4), candidates)
    assert isinstance(end, Made), end
    assert commit(store, end.receipt)
    [receipt] = read_commits(store).values()
    assert receipt.accepted == accepted
    assert receipt.reasons == ({} if accepted else Counter(fused=4))
    assert "check_fused" in [column["name"] for column in manifest.columns]
    assert RunManifest.from_json(manifest.to_json()).score("fused").limit == limit
    assert first_card(manifest)


def test_what_calibrate_writes_is_what_runs_read():
    assert CalibrationFile.model_validate(FILE).model_dump(mode="json") == FILE
