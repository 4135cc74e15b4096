"""A run from Python: what `import mfsynth` offers, on a real Ray and with a real, tiny model."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import mfsynth
from mfsynth import api
from mfsynth.cli.status import status as status_command
from mfsynth.cli.verify import verify as verify_command
from mfsynth.config import ModelConfig
from mfsynth.errors import MfsynthError
from mfsynth.runs.events import Outcome
from mfsynth.runs.watching.notices import Committed
from mfsynth.runs.watching.snapshot import Snapshot

NOTEBOOK = Path(__file__).parents[2] / "docs" / "how-to" / "from_python.ipynb"


@pytest.fixture
def values(run_folder, cluster):
    """A run of two shards that joins the cluster of the tests, as a mapping."""
    runtime = run_folder.values["runtime"] | {"ray_address": cluster, "workers": 1}
    return run_folder.values | {"target": {"candidates": 16}, "runtime": runtime}


def test_a_run_is_made_watched_checked_and_read_from_python(values, run_folder):
    class EnoughError(Exception):
        pass

    def stop(notice):
        if isinstance(notice, Committed):
            raise EnoughError

    # What a callback raises ends the run, and loses nothing that is committed.
    with pytest.raises(EnoughError):
        mfsynth.generate(run_folder.file(**values), quiet=True, on_notice=stop)
    url = run_folder.output
    there = mfsynth.status(url).shards
    assert there >= 1

    snapshots, notices = [], []
    watched = {"on_progress": snapshots.append, "on_notice": notices.append, "quiet": True}
    result = mfsynth.generate(values, overrides=["target.candidates=24"], **watched)
    assert result.outcome is Outcome.FINISHED
    assert result.totals.candidates == 24
    assert {type(snapshot) for snapshot in snapshots} == {Snapshot}
    assert snapshots[-1].totals.candidates == 24
    shards = [notice.receipt.shard for notice in notices if isinstance(notice, Committed)]
    # A worker that was being stopped may have committed one more meanwhile: none is made twice.
    assert len(shards) == len({*shards})
    assert {*shards} <= {*range(there, 3)}

    status, seen = mfsynth.status(url), []
    assert (status.shards, status.candidates, status.pairs) == (3, 24, result.totals.accepted)
    report = mfsynth.verify(url, on_progress=lambda done, of: seen.append((done, of)))
    assert (report.problems, report.shards, report.pairs) == ((), 3, status.pairs)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert len(mfsynth.open_dataset(url)) == status.pairs
    # The commands say the same.
    shown = CliRunner().invoke(status_command, [str(url), "--json"])
    assert json.loads(shown.output)["pairs"] == status.pairs
    assert "3 shards" in CliRunner().invoke(verify_command, [str(url)]).output


def test_a_configuration_of_another_job_or_none_is_refused_in_one_line(run_folder):
    with pytest.raises(MfsynthError, match="`mfsynth annotate` makes i2d"):
        mfsynth.annotate(run_folder.values, quiet=True)
    with pytest.raises(MfsynthError, match=r"^targte: unknown key; did you mean target"):
        mfsynth.generate(run_folder.values | {"targte": 1}, quiet=True)
    with pytest.raises(MfsynthError, match="no-such-run"):
        mfsynth.status("no-such-run")


def test_the_three_jobs_are_called_alike():
    wanted = inspect.signature(mfsynth.generate).parameters
    for job in (mfsynth.annotate, mfsynth.retexture):
        found = inspect.signature(job).parameters
        assert [*found] == [*wanted]
        assert found["config"].default == job.__name__
    assert all(job.__name__ == name for name, job in api.JOBS.items())


@pytest.mark.parametrize("as_config", [True, False])
def test_a_model_is_loaded_without_a_run(tiny_model_dir, as_config):
    model = ModelConfig(id=str(tiny_model_dir)) if as_config else tiny_model_dir
    pipeline = mfsynth.load_pipeline(model, "cpu")
    made = pipeline(["a red cube"], seeds=[3], num_inference_steps=1)
    assert made.rgb.shape == (1, 32, 32, 3)
    assert made.depth.shape == (1, 32, 32)


def test_to_import_what_is_offered_imports_nothing_heavy():
    code = (
        "import sys, mfsynth\n"
        "from mfsynth import annotate, generate, load_pipeline, retexture, status, verify\n"
        "light = {'numpy', 'pyarrow', 'pydantic', 'fsspec'} & {*sys.modules}\n"
        "from mfsynth import open_dataset\n"
        "print(light, {'torch', 'ray', 'diffusers', 'transformers', 'PIL'} & {*sys.modules})\n"
        "print(sorted({*mfsynth.__all__} - {*dir(mfsynth)}))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split("\n") == ["set() set()", "[]", ""]


def test_the_notebook_runs_as_it_is_written(tmp_path):
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    shown = (
        "\nprint(result.outcome.name, len(dataset), made.depth.shape, page.stat().st_size > 9999)"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{code}{shown}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outcome, pairs, *rest = done.stdout.splitlines()[-1].split(maxsplit=2)
    assert (outcome, rest) == ("FINISHED", ["(1, 128, 128) True"])
    assert int(pairs) >= 2
    assert (tmp_path / "out" / "notebook" / "report.html").exists()


def test_a_device_that_is_none_is_one_line():
    with pytest.raises(MfsynthError, match=r"^device: must be auto, .*, not 'tpu'"):
        mfsynth.load_pipeline("embedded", "tpu")
