"""`mfsynth plan` from the receipts of real runs."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import tiny_run
import yaml

from mfsynth.cli import main
from mfsynth.config import RunConfig
from mfsynth.config.resources import resource_dir
from mfsynth.formatting import size as in_words
from mfsynth.runs import budget
from mfsynth.runs.jobs import job_of
from mfsynth.runs.plan import recorded_config
from mfsynth.runs.settings import load_run_config
from mfsynth.shards.drivers import note_progress
from mfsynth.shards.run_manifest import open_run
from mfsynth.storage.store import ObjectStore


@pytest.fixture
def values(tmp_path) -> dict:
    return {
        "name": tiny_run.RUN,
        "target": {"pairs": 800},
        "shard_size": tiny_run.SHARD_SIZE,
        "prompts": {"library": "tabletop"},
        "output": str(tmp_path / "run"),
    }


@pytest.fixture
def plan(tmp_path, capsys):
    """Run the command on values; gives back exit status, output and errors."""

    def run(values, *arguments):
        path = tmp_path / "run.yaml"
        path.write_text(yaml.safe_dump(values))
        with pytest.raises(SystemExit) as stop:
            main(["plan", str(path), *map(str, arguments)])
        shown = capsys.readouterr()
        return stop.value.code or 0, shown.out, shown.err

    return run


def make_run(values, shards=3):
    """A run of the configuration with shards of 4, 4 and 0 pairs, two worker seconds each."""
    config = RunConfig.model_validate(values)
    manifest = tiny_run.make_manifest()
    store = ObjectStore.open(values["output"])
    changes = {name: getattr(manifest, name) for name in manifest.__slots__}
    open_run(store, type(manifest)(**changes | {"config": recorded_config(config)}))
    return tiny_run.make_run(values["output"], shards)


def test_a_run_is_planned_from_its_own_shards(values, plan):
    store = make_run(values)
    status, out, _ = plan(values, "--json", "--gpus", 4, "--price", 3.0)
    found = json.loads(out)
    assert status == 0
    assert (found["target"], found["there"]) == (800, 8)
    # 792 pairs at 8 in 18, in shards of 6.
    assert (found["shards"], found["candidates"]) == (297, 1782)
    assert found["worker_hours"]["value"] == pytest.approx(297 * 2 / 3600)
    assert found["wall_hours"]["value"] == pytest.approx(75 * 2 / 3600)
    assert found["cost"]["value"] == pytest.approx(3 * 297 * 2 / 3600)
    size = sum(
        entry.size for folder in ("shards", "index", "rejects") for entry in store.entries(folder)
    )
    assert found["size"]["value"] == pytest.approx(297 * size / 3)


def test_a_run_is_planned_from_another_one_and_what_differs_is_told(values, plan, tmp_path):
    make_run(values)
    other = {**values, "output": str(tmp_path / "new"), "sampler": {"steps": 99}, "seed": 7}
    status, out, _ = plan(other, "--from", values["output"])
    assert status == 0
    assert "target       800 pairs, 0 there" in out
    assert "  sampler.steps: 30 -> 99" in out
    assert "seed" not in out
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("began", "now"),
    [
        ({}, {"keep_rejects": "thumbnails"}),
        ({"keep_rejects": "none"}, {"keep_reject_thumbnails": False}),
        ({"keep_reject_thumbnails": False}, {"keep_rejects": "none"}),
    ],
)
def test_settings_of_one_meaning_are_those_of_the_run(values, plan, began, now):
    make_run(values | began)
    status, out, _ = plan(values | now)
    assert (status, "800 pairs, 8 there" in out) == (0, True)
    status, _, err = plan(values | {"keep_rejects": "all"})
    assert status == 1
    assert "other settings (keep_rejects: " in err


@pytest.fixture
def receipts_say(monkeypatch):
    """Give the receipts that are read other fields."""

    def give(**fields):
        read = budget.read_known_commits
        monkeypatch.setattr(
            budget,
            "read_known_commits",
            lambda store: {n: replace(r, **fields) for n, r in read(store).items()},
        )

    return give


@pytest.mark.parametrize(
    "asked", [["--gpus", 4], ["--price", 2.5], ["--set", "runtime.device=cuda"]]
)
def test_the_speed_of_a_processor_is_not_taken_for_that_of_a_gpu(values, plan, receipts_say, asked):
    make_run(values)
    receipts_say(device="cpu", device_name="AMD EPYC")
    status, out, err = plan(values, *asked)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "was measured on AMD EPYC (cpu), which says nothing of a GPU's speed; leave " in err
    assert str(asked[-1 if asked[0] == "--set" else 0]) in err
    status, out, _ = plan(values)
    assert status == 0
    assert "  made on    AMD EPYC (cpu)" in out
    assert "h (of a worker without a GPU: a GPU's differ)" in out


@pytest.mark.parametrize(
    ("device", "made_on", "hours"),
    [
        ({"device": "cuda", "device_name": "NVIDIA H100"}, "NVIDIA H100 (cuda)", "(GPU hours)"),
        ({}, "a device that is not recorded", "(GPU hours, where workers have GPUs)"),
    ],
)
def test_it_says_what_the_measured_shards_were_made_on(
    values, plan, receipts_say, device, made_on, hours
):
    make_run(values)
    receipts_say(**device)
    status, out, _ = plan(values, "--gpus", 4, "--price", 2.5)
    assert status == 0
    assert f"  made on    {made_on}\n" in out
    assert hours in out


def test_errors_are_the_same_in_text_and_json(values, plan):
    make_run(values)
    out = plan(values)[1]
    error = json.loads(plan(values, "--json")[1])["measured"]["acceptance"]["error"]
    assert f"  accepted   44.4 ± {100 * error:.1f} %" in out
    assert "±            standard error over 3 shards" in out
    size = json.loads(plan(values, "--json")[1])["size"]
    assert f"storage      {in_words(size['value'])} ± {in_words(size['error'])}" in out


@pytest.mark.parametrize("price", ["nan", "inf"])
def test_a_price_that_is_no_number_is_refused(values, plan, price):
    status, out, err = plan(values, "--price", price)
    assert (status, out) == (2, "")
    assert f"'{price}' is no number" in err


def test_without_a_measurement_it_says_how_to_get_one(values, plan):
    status, out, err = plan(values)
    assert (status, out) == (1, "")
    assert err.count("\n") == 1
    assert "mfsynth generate CONFIG --pairs 64" in err
    assert "--from URL" in err


def test_an_output_of_another_run_is_refused(values, plan):
    make_run(values)
    status, _, err = plan({**values, "shard_size": 8})
    assert status == 1
    assert "shard_size: 6 -> 8" in err


def test_a_finished_run_takes_nothing(values, plan):
    make_run(values)
    status, out, _ = plan(values, "--pairs", 8, "--gpus", 2)
    assert status == 0
    assert "to make      0 shards, 0 candidates" in out
    assert "wall time    0.000" in out


def test_prompts_that_moved_and_a_revision_that_was_found_are_the_same_run(values, plan):
    make_run(values)
    moved = {
        **values,
        "prompts": {"file": "elsewhere/prompts.txt"},
        "model": {"id": "embedded", "revision": "r1"},
    }
    status, out, _ = plan(moved)
    assert status == 0
    assert "8 there" in out


def test_nothing_is_planned_from_a_run_that_has_lost_a_receipt(values, plan, tmp_path):
    store = make_run(values)
    note_progress(store, 4)
    status, _, err = plan(values | {"output": str(tmp_path / "new")}, "--from", store.url)
    assert status == 1
    assert "3 receipts in _commits/, but 4 shards were committed" in err


MACHINES = ("local, on CPUs", "one GPU", "a GPU of 24 GB", "eight H100", "a cluster overnight")


def settings_for(machine: str, name: str) -> tuple[str, list[str]]:
    """The configuration and settings that the comments of one name for a machine."""
    text = (resource_dir("configs") / f"{name}.yaml").read_text()
    line = re.search(rf"^#   {machine}: +(.*)$", text, re.MULTILINE)[1]
    if other := re.search(r"configs/(\w+)[.]yaml", line):
        return other[1], []
    settings = re.findall(r"--set (\S+)", line.replace("s3://BUCKET/RUN", "memory://bucket/run"))
    assert settings
    return name, settings


@pytest.mark.parametrize("job", ["annotate", "retexture"])
@pytest.mark.parametrize("machine", MACHINES)
def test_configurations_of_jobs_are_planned_for_every_machine_that_they_name(
    values, tmp_path, capsys, job, machine
):
    make_run(values)
    (tmp_path / "photographs").mkdir()
    for number in range(3):
        (tmp_path / "photographs" / f"{number}.jpg").write_bytes(b"not looked at yet")
    name, settings = settings_for(machine, f"{job}_gpu")
    candidates = {"annotate": 3, "annotate_gpu": 3, "retexture": 64, "retexture_gpu": 4000}[name]
    if job == "annotate":
        settings.append(f"source.path={tmp_path / 'photographs'}")
    overrides = [part for setting in settings for part in ("--set", setting)]
    assert job_of(load_run_config(name, settings)) == job
    with pytest.raises(SystemExit) as stop:
        main(["plan", name, "--from", values["output"], "--json", *overrides])
    assert not stop.value.code
    found = json.loads(capsys.readouterr().out)
    assert (found["target"], found["there"]) == (candidates, 0)
    size = load_run_config(name).shard_size
    assert found["shards"] == -(-candidates // size)
