"""`benchmarks/proof.py` on a tiny run: its arms are of equal size, and what is done stays done."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_run
from click.testing import CliRunner

from mfsynth.errors import MfsynthError
from mfsynth.shards.commits import ScoreInfo

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def proof(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    found = pytest.importorskip("proof")
    monkeypatch.setattr(found, "OTHER_SCENES", 2)
    monkeypatch.setattr(found, "NETWORK", (*found.NETWORK, "estimator.widths=[8]", "batch_size=2"))
    return found


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
