"""`benchmarks/proof.py` on tiny runs: arms of equal size, masks; what is done stays done."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_jobs
import tiny_run
from click.testing import CliRunner

from mfsynth.config import RunConfig
from mfsynth.datasets import RGBDDataset
from mfsynth.errors import MfsynthError
from mfsynth.geometry.resizing import resize_nearest
from mfsynth.runs.settings import complete
from mfsynth.shards.run_manifest import ScoreInfo
from mfsynth.simulation.gl import gl_context
from mfsynth.training.data import Fitted

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def proof(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    found = pytest.importorskip("proof")
    monkeypatch.setattr(found, "OTHER_SCENES", 2)
    monkeypatch.setattr(found, "NETWORK", (*found.NETWORK, "estimator.widths=[8]", "batch_size=2"))
    return found


@pytest.fixture(scope="module")
def retextured(opengl, tiny_model_dir, tmp_path_factory):
    """A run over four scenes of 128×128 with their masks."""
    folder = tmp_path_factory.mktemp("retextured")
    source = {"kind": "live_scenes", "library": "tabletop_shapes", "style": "close"}
    values = {
        "name": "retextured",
        "source": source | {"scenes": 4, "size": 128, "masks": True},
        "target": {"all": True},
        "shard_size": 4,
        "model": {"id": str(tiny_model_dir)},
        "sampler": {"mode": "d2i", "steps": 1, "guidance": 1.0},
        "checks": {},
        "output": str(folder / "run"),
        "runtime": {"workers": 1, "batch_size": 2, "device": "cpu"},
    }
    # A context serves one thread, and the run's worker has one for loading.
    gl_context.cache_clear()
    tiny_jobs.make(complete(RunConfig.model_validate(values)))
    gl_context.cache_clear()
    return str(folder / "run")


@pytest.mark.usefixtures("opengl")
def test_arms_have_equal_numbers_and_finished_ones_are_not_repeated(proof, tmp_path):
    manifest = tiny_run.make_manifest(keeps_rejects=True)
    scores = {name: ScoreInfo(name) for name in tiny_run.SCORES}
    tiny_run.make_run(str(tmp_path / "run"), 2, replace(manifest, scores=scores))
    results = tmp_path / "results.jsonl"
    command = ["--pairs", tmp_path / "run", "--results", results, "--out", tmp_path / "out"]
    command += ["--steps", 2, "--count", 2, "--seed", 5, "--only", "filter"]
    asked = CliRunner().invoke(proof.main, [*map(str, command)], catch_exceptions=False)
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    # Two shards of four pairs and a reject each; what could not be made has no pixels.
    sizes = {row["arm"]: row["pairs"] for row in rows}
    assert sizes == {"all": 10, "unfiltered": 8, "random": 8, "filtered": 8}
    assert all(0 < score < 2 for row in rows for score in row["scores"].values())
    assert "| embedded | random | 1 | 8 |" in asked.output

    written = results.read_bytes()
    again = CliRunner().invoke(proof.main, [*map(str, command)], catch_exceptions=False)
    assert results.read_bytes() == written
    assert again.output.strip() in asked.output
    # With other inputs nothing of before passes for theirs.
    other = [*map(str, command), "--filter", "candidate < 3"]
    with pytest.raises(MfsynthError, match="seed 5 is there with other pairs or options"):
        CliRunner().invoke(proof.main, other, catch_exceptions=False)
    assert results.read_bytes() == written
    printed = CliRunner().invoke(proof.main, ["--results", str(results)])
    assert printed.output == again.output


def test_looks_have_mask_networks_and_go_on_where_they_were_interrupted(
    proof, retextured, tmp_path, monkeypatch
):
    results = tmp_path / "results.jsonl"

    def called(out):
        command = ["--retextured", retextured, "--results", results, "--out", tmp_path / out]
        command += ["--steps", 2, "--count", 2, "--seed", 5]
        return CliRunner().invoke(proof.main, [*map(str, command)], catch_exceptions=False)

    table = called("first").output
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    arms = [(row["arm"], row["task"]) for row in rows]
    looks = ("retextured", "flat", "randomised")
    assert arms == [(look, task) for look in looks for task in ("depth", "mask")]
    assert [len(row["scores"]) for row in rows] == [3, 2] * 3
    assert all(0 <= score < 2 for row in rows for score in row["scores"].values())
    assert "| other scenes, 2: IoU of things, higher is better |" in table
    assert "| embedded | flat | 1 | 4 |" in table

    # Elsewhere: a network is of its seed, not of what else lies there.
    written, learn, learnt = results.read_text(), proof.learn, []
    results.write_text("".join(written.splitlines(keepends=True)[:4]))
    monkeypatch.setattr(proof, "learn", lambda *given: learnt.append(given[1]) or learn(*given))
    called("second")
    assert learnt == ["depth", "mask"]
    assert results.read_text() == written


def test_image_depth_and_mask_come_to_the_network_s_size_together(proof, retextured):
    assert proof.load_estimator_config("estimator", proof.NETWORK).size == 64
    sample = RGBDDataset(retextured, labels=True)[0]
    assert sample.rgb.shape == (128, 128, 3)
    turned = set()
    for seed in range(8):
        plain, depth, mask = (
            Fitted(64, 64, mirror=mirror)(given, np.random.default_rng(seed))
            for mirror, given in (
                (False, sample),
                (True, sample),
                (True, proof.mask_as_depth(sample, np.random.default_rng())),
            )
        )
        turn = 1 if np.array_equal(plain.rgb, depth.rgb) else -1
        turned.add(turn)
        assert plain.rgb.shape == (64, 64, 3)
        np.testing.assert_array_equal(depth.rgb, plain.rgb[:, ::turn])
        np.testing.assert_array_equal(mask.rgb, depth.rgb)
        np.testing.assert_array_equal(depth.depth, resize_nearest(sample.depth, 64, 64)[:, ::turn])
        np.testing.assert_array_equal(
            mask.depth == 2, resize_nearest(sample.mask, 64, 64)[:, ::turn] > 0
        )
    assert turned == {1, -1}


def test_iou_is_of_each_image_and_1_of_what_is_all_right(proof):
    truth = np.zeros((3, 4, 4), bool)
    truth[:2, :2] = True
    assert proof.thing_iou(truth, truth) == 1
    half = truth.copy()
    half[0, 0] = False
    assert proof.thing_iou(half, truth) == pytest.approx((0.5 + 1 + 1) / 3)
    assert proof.thing_iou(~truth, truth) == 0


def test_a_mask_network_learns_what_its_pairs_show(proof, retextured, tmp_path, monkeypatch):
    settings = ("estimator.widths=[16, 32]", "batch_size=4", "warmup_steps=5", "ema=0.9")
    monkeypatch.setattr(proof, "NETWORK", (*proof.NETWORK, *settings))
    flat = proof.looks(retextured, tmp_path)["flat"]
    network = proof.learn(flat, "mask", 0, 40, tmp_path / "network")
    fitted = Fitted(64, 64)
    rng = np.random.default_rng(0)
    seen = [
        fitted(proof.mask_as_depth(flat(pair, rng), rng), rng) for pair in flat.pairs.with_labels()
    ]
    things = np.stack([pair.depth for pair in seen]) == 2
    found = proof.find_things(network, np.stack([pair.rgb for pair in seen]))
    constant = proof.thing_iou(np.ones_like(things), things)
    assert proof.thing_iou(found, things) > (1 + constant) / 2
