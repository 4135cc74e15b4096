"""A second opinion in a run: who may ask for it, what it is asked, and what becomes of it."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny_estimators
from standin import SIZE, Behaviour, StandInPipeline
from started import manifest_of, plan_of, start
from training_files import one_line_error

from mfsynth.checks import Check, Score, registry
from mfsynth.config.cameras import CameraConfig
from mfsynth.config.estimators import DepthEstimatorConfig
from mfsynth.datasets import RGBDDataset
from mfsynth.errors import MfsynthError
from mfsynth.geometry import (
    DepthEstimate,
    DepthKind,
    EstimateKind,
    Intrinsics,
    IntrinsicsSource,
)
from mfsynth.runs import settings
from mfsynth.runs.doctor import model_probes
from mfsynth.runs.doctor.findings import Severity
from mfsynth.runs.estimator import run_estimator
from mfsynth.runs.metres import NO_SCALE
from mfsynth.runs.pool import open_shard_worker
from mfsynth.runs.protocol import Assignment, Failed, FailureCause
from mfsynth.runs.reproduce import find_candidate, make_again
from mfsynth.runs.settings import load_run_config
from mfsynth.runs.worker import ShardWorker
from mfsynth.shards.commits import commit, read_commits
from mfsynth.shards.documents.card import first_card
from mfsynth.shards.reading import read_index
from mfsynth.shards.run_manifest import read_run
from mfsynth.shards.verify import verify_run
from mfsynth.storage.store import ObjectStore

CAMERA = Intrinsics(20.0, 20.0, 7.5, 7.5)


class Near(Check):
    """How far the estimator says that it is."""

    most: float = 1000.0

    inputs = ("estimate",)
    scores = (Score("near", "near", "lower", "mean of the estimate", limit="most"),)

    def measure(self, pair):
        return {"near": float(pair.estimate.values.mean())}


@pytest.fixture
def near(monkeypatch):
    known = {**registry.BUILT_IN, "near": Near}
    monkeypatch.setattr(registry, "BUILT_IN", known)
    monkeypatch.setattr(settings, "BUILT_IN", known)


class StandInEstimator:
    """Says the depth of the stand-in's pairs in metres: 1.7 of their units, and a camera."""

    def __init__(self, config, valid: float = 1.0, memory: int = 1000, kind=EstimateKind.METRIC_Z):
        self.pipeline = StandInPipeline(config, Behaviour())
        self.memory, self.valid, self.kind = memory, valid, kind
        self.asked: list[int] = []
        self.cameras: list[object] = []

    def __call__(self, rgb, cameras=None):
        self.asked.append(len(rgb))
        self.cameras.append(cameras)
        if len(rgb) > self.memory:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        estimates = []
        for image in rgb:
            metres = np.full((SIZE, SIZE), 1.7, np.float32)
            metres[:, SIZE // 2 :] = 3.4
            valid = np.zeros((SIZE, SIZE), bool)
            valid[: round(SIZE * self.valid)] = True
            assert image.dtype == np.uint8
            estimates.append(DepthEstimate(metres, valid, self.kind, CAMERA))
        return estimates


def make(worker, config, shard=0, batch_size=4):
    candidates = plan_of(config).shard(shard)
    *_, end = worker.make_shard(Assignment(shard, "a", batch_size), candidates)
    return end


def index_of(config):
    """Rows of a run that is sound, by whatever `verify` looks at."""
    store = ObjectStore.open(config.output)
    assert not verify_run(store).problems
    return read_index(store, read_commits(store).values()).to_pylist()


def test_what_an_estimator_sees_stands_beside_the_camera_that_is_assumed(near, run_folder):
    config = run_folder.config(
        estimator={"id": "embedded"}, camera={"fov": 60.0}, checks={"near": {}}
    )
    start(config)
    estimator = StandInEstimator(config)
    worker = ShardWorker(config, StandInPipeline(config, Behaviour()), estimator=estimator)
    assert commit(ObjectStore.open(config.output), make(worker, config).receipt)
    assumed = config.camera.intrinsics(SIZE, SIZE)
    assert estimator.cameras == [[assumed] * 4] * 2
    for row in index_of(config):
        assert row["intrinsics_source"] == "assumed"
        assert row["fx"] == pytest.approx(assumed.fx)
        assert (row["estimated_fx"], row["estimated_cy"]) == (CAMERA.fx, CAMERA.cy)


def metric_folder(tmp_path):
    return tiny_estimators.depth_anything(
        tmp_path / "metric", depth_estimation_type="metric", max_depth=20
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"checks": {"near": {}}},
            r"checks\.near: looks at what a depth estimator says .*; set estimator\.id",
        ),
        ({"estimator": {"id": "embedded"}}, "estimator: nothing looks at what it says; name a"),
        ({"metres_per_unit": "estimator"}, "metres_per_unit: estimator, and there is none; set"),
    ],
)
def test_an_estimator_that_is_missing_or_idle_is_one_line(near, run_folder, changes, message):
    with one_line_error(message):
        run_folder.config(**changes)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"metres_per_unit": 0}, "must be estimator, source, or a number of metres above 0, not 0"),
        ({"metres_per_unit": "metres"}, "must be estimator, source, or a number"),
        ({"estimator": {"id": "embedded", "kind": "midas"}}, r"estimator\.kind: .*'moge'"),
    ],
)
def test_settings_that_are_none_name_what_is_known(run_folder, given, message):
    with one_line_error(message):
        load_run_config(str(run_folder.file(**given)))


def test_metres_of_an_estimator_that_gives_none_are_refused(run_folder):
    config = run_folder.config(estimator={"id": "embedded"}, metres_per_unit="estimator")
    with one_line_error("metres_per_unit: embedded gives scale invariant z, no metres; name a"):
        run_estimator(config)


def test_a_check_that_would_turn_every_pair_down_for_lack_of_a_camera_is_refused(run_folder):
    checks = {"estimator_agreement": {}, "planarity": {"on_abstain": "reject"}}
    config = run_folder.config(estimator={"id": "embedded"}, checks=checks)
    with one_line_error(r"checks\.planarity\.on_abstain: reject turns .* set camera, or leave"):
        run_estimator(config)
    run_estimator(config.model_copy(update={"camera": CameraConfig(fov=60.0)}))


def test_what_a_check_looks_at_is_the_estimate_of_its_own_pair(near, run_folder):
    config = run_folder.config(estimator={"id": "embedded"}, checks={"near": {}})
    start(config)
    estimator = StandInEstimator(config)
    worker = ShardWorker(config, StandInPipeline(config, Behaviour()), estimator=estimator)
    made = make(worker, config)
    assert estimator.asked == [4, 4]
    assert "estimate" in made.receipt.seconds
    assert commit(ObjectStore.open(config.output), made.receipt)
    for sample in RGBDDataset(config.output):
        assert sample.scores["near"] == pytest.approx(1.7 * 1.5, rel=1e-6)
        assert sample.depth_kind is DepthKind.SCALE_INVARIANT_Z
        assert np.array_equal(sample.intrinsics, CAMERA.matrix())
        assert sample.intrinsics_source is IntrinsicsSource.ESTIMATED


def test_an_estimator_that_has_no_memory_left_is_a_batch_that_was_too_large(near, run_folder):
    config = run_folder.config(estimator={"id": "embedded"}, checks={"near": {}})
    start(config)
    pipeline = StandInPipeline(config, Behaviour())
    worker = ShardWorker(config, pipeline, estimator=StandInEstimator(config, memory=2))
    end = make(worker, config)
    assert isinstance(end, Failed)
    assert end.cause is FailureCause.OUT_OF_MEMORY
    assert make(worker, config, batch_size=2).receipt.candidates == 8


@pytest.mark.parametrize("by", ["estimator", 2.5])
def test_depth_is_metric_by_the_estimator_or_by_hand(run_folder, by, tmp_path):
    given = {"metres_per_unit": by}
    if by == "estimator":
        given["estimator"] = {"id": str(metric_folder(tmp_path))}
    config = run_folder.config(**given)
    start(config)
    estimator = StandInEstimator(config) if by == "estimator" else None
    worker = ShardWorker(config, StandInPipeline(config, Behaviour()), estimator=estimator)
    assert commit(ObjectStore.open(config.output), make(worker, config).receipt)
    samples = [*RGBDDataset(config.output)]
    assert samples
    factor = 1.7 if by == "estimator" else by
    for sample in samples:
        assert sample.depth_kind is DepthKind.ESTIMATED_METRIC_Z
        found = np.unique(sample.depth)
        np.testing.assert_allclose(found, [factor, 2 * factor], rtol=1e-3)
    rows = index_of(config)
    np.testing.assert_allclose([row["metres_per_unit"] for row in rows], factor, rtol=1e-6)
    errors = {row["metres_per_unit_error"] for row in rows}
    assert errors == ({0.0} if by == "estimator" else {None})


@pytest.mark.parametrize("says", [{"valid": 0.0}, {"kind": EstimateKind.SCALE_INVARIANT_Z}])
def test_a_pair_that_can_not_be_made_metric_is_rejected_without_a_way_back(
    run_folder, tmp_path, says
):
    config = run_folder.config(
        estimator={"id": str(metric_folder(tmp_path))},
        metres_per_unit="estimator",
        keep_rejects="all",
    )
    store = start(config)

    def open_worker(config, device):
        estimator = StandInEstimator(config, **says)
        return ShardWorker(config, StandInPipeline(config, Behaviour()), estimator=estimator)

    receipt = make(open_worker(config, "cpu"), config).receipt
    assert (receipt.accepted, receipt.reasons[NO_SCALE]) == (0, 8)
    assert commit(store, receipt)
    rejects = pq.read_table(store.local_root / receipt.objects["rejects"].key, partitioning=None)
    assert {*rejects["rgb_offset"].to_pylist()} == {None}
    assert not verify_run(store).problems
    _, candidate = find_candidate(config.output, 0, trust=True)
    again = make_again(config.output, config, candidate, "cpu", open_worker=open_worker)
    assert NO_SCALE in again.failed


def test_the_weights_of_the_estimator_decide_what_a_run_is(run_folder, tmp_path):
    folder = metric_folder(tmp_path)
    config = run_folder.config(estimator={"id": str(folder)}, metres_per_unit="estimator")
    first = manifest_of(config)
    assert len(first.settings["estimator"]["revision"]) == 64
    assert first.estimator == {
        "id": str(folder),
        "revision": first.settings["estimator"]["revision"],
        "licence": "unknown",
    }
    with (folder / "preprocessor_config.json").open("a") as file:
        file.write("\n")
    assert manifest_of(config).fingerprint != first.fingerprint
    plain = manifest_of(run_folder.config())
    assert "estimator" not in plain.settings
    assert '"estimator"' not in plain.to_json()


def test_card_and_run_name_the_estimator_and_its_licence(run_folder, tmp_path):
    folder = metric_folder(tmp_path)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    config = run_folder.config(estimator={"id": str(folder)}, metres_per_unit="estimator")
    stored = read_run(start(config))
    assert stored.estimator["licence"] == "mit"
    assert f"- depth estimator: {folder}" in first_card(stored).replace("\\", "")
    assert "licence mit" in first_card(stored)


def test_doctor_tells_of_an_estimator_and_of_a_licence_that_is_not_clear(run_folder, tmp_path):
    folder = metric_folder(tmp_path)
    config = run_folder.config(estimator={"id": str(folder)}, metres_per_unit="estimator")
    info = run_estimator(config)
    assert info is not None
    found = model_probes.may_be_used(info)
    assert (found.severity, "metric z" in found.seen) == (Severity.WARNING, True)
    assert model_probes.estimator_has_its_weights(config.estimator).severity is Severity.OK
    (folder / "model.safetensors").unlink()
    with pytest.raises(MfsynthError, match="no weights"):
        model_probes.estimator_has_its_weights(config.estimator)
    with pytest.raises(MfsynthError, match=r"^estimator\.id: .*name a"):
        run_estimator(
            config.model_copy(update={"estimator": DepthEstimatorConfig(id="nobody/none")})
        )


def test_a_candidate_is_made_again_with_its_estimator_and_only_of_a_run_that_is_trusted(
    run_folder, tmp_path
):
    folder = metric_folder(tmp_path)
    config = run_folder.config(
        checks={}, estimator={"id": str(folder)}, metres_per_unit="estimator"
    )
    store = start(config)
    end = make(open_shard_worker(config, "cpu"), config)
    assert commit(store, end.receipt)
    with one_line_error(rf"and the estimator '{folder}'; if the run is yours, or you trust all"):
        find_candidate(config.output, 3)
    _, candidate = find_candidate(config.output, 3, trust=True)
    again = make_again(config.output, config, candidate, "cpu")
    stored = {sample.sample_id: sample for sample in RGBDDataset(config.output)}
    if not again.failed:
        # The batch was another, by which the last bits of sums differ.
        np.testing.assert_allclose(again.depth, stored[again.sample_id].depth, rtol=1e-3)
