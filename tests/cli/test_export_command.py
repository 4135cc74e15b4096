"""`mfsynth export` as people call it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny_run
from metric_run import make_episode_run

from mfsynth.cli import main
from mfsynth.datasets import RGBDDataset
from mfsynth.shards.frame_columns import FrameColumn, encode_frame
from mfsynth.shards.labels import Moment
from mfsynth.shards.refilter import refilter
from mfsynth.shards.views import Bound, Rules


def called(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["export", *map(str, arguments)])
    out, err = capsys.readouterr()
    return ended.value.code, out, err


def test_the_same_command_exports_and_then_finds_everything_there(tmp_path, capsys):
    store = tiny_run.make_run(str(tmp_path / "run"), shards=1)
    command = (store.url, "--format", "scannet", "--out", tmp_path / "out", "--metres-per-unit", 40)
    code, out, err = called(capsys, *command)
    assert (code, out) == (0, f"{tmp_path}/out: 4 pairs as scannet\n")
    # 1 to 2.9 units of 40 m: most of them are beyond 65.5 m.
    lost = sum(np.count_nonzero(sample.depth * 40 > 65.5345) for sample in RGBDDataset(store.url))
    every = 4 * (24 * 32 - 6)
    told = f"{lost} of {every} pixels with depth ({lost / every:.1%}) are where scannet has no code"
    assert told in err
    code, out, err = called(capsys, *command)
    assert (code, out) == (0, f"{tmp_path}/out: 4 pairs as scannet (all were there)\n")
    assert told in err


def test_columns_that_a_format_leaves_out_are_told(tmp_path, capsys):
    frame = encode_frame(
        {"action": (one := FrameColumn("bool", (1,)))}, {"action": one.value(True)}
    )
    moments = [Moment("pour", 0), Moment("pour", 1)]
    store = make_episode_run(str(tmp_path / "run"), moments, [frame, None])
    code, out, err = called(capsys, store.url, "--format", "lerobot", "--out", tmp_path / "out")
    assert (code, out) == (0, f"{tmp_path}/out: 2 pairs as lerobot\n")
    assert "action of a LeRobot source: not in the export, for not all of its pairs" in err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--format", "tun"], "--format tun: no such format; did you mean tum?"),
        (["--format", "tum", "--set", "step=2"], "--set: step: "),
        (["--format", "bop", "--set", "split=../up"], "--set: split: "),
        (["--format", "tum"], "4 of 4 pairs have relative depth"),
    ],
)
def test_what_can_not_be_exported_is_one_line(tmp_path, capsys, arguments, problem):
    store = tiny_run.make_run(str(tmp_path / "run"), shards=1)
    code, _, err = called(capsys, store.url, "--out", tmp_path / "out", *arguments)
    assert code == 1
    assert problem in err
    assert err.count("\n") == 1


def test_an_export_is_written_to_this_machine(tmp_path, capsys):
    code, _, err = called(capsys, tmp_path, "--format", "tum", "--out", "memory://out")
    assert code == 1
    assert "--out is a folder of this machine" in err


def test_a_run_is_no_place_for_an_export_of_it(tmp_path, capsys):
    store = tiny_run.make_run(str(tmp_path / "run"), shards=1)
    for out in (tmp_path, tmp_path / "run", tmp_path / "run" / "folder"):
        code, _, err = called(capsys, store.url, "--format", "folder", "--out", out)
        assert code == 1
        assert "lies in the run, or the run in it" in err


def test_help_says_of_every_format_what_it_holds_and_loses(capsys):
    code, out, _ = called(capsys, "--help")
    assert code == 0
    told = " ".join(out.split())
    assert "tum 8-bit PNG, 16-bit PNG of 5000 codes a metre" in told
    assert "loses depth beyond 13.1 m" in told
    assert "--set split=train_mfsynth, images_per_scene=1000" in told


def test_pairs_that_meet_a_condition_are_exported(tmp_path, capsys):
    store = tiny_run.make_run(str(tmp_path / "run"), shards=2)
    command = (store.url, "--format", "folder", "--out", tmp_path / "out")
    called(capsys, *command, "--filter", "registration > 4.5 and candidate < 8")
    texts = [
        json.loads(line)["text"]
        for line in (tmp_path / "out" / "metadata.jsonl").read_text().splitlines()
    ]
    assert texts == [f"a red cube, number {candidate}" for candidate in (3, 6, 7)]


def test_of_a_view_its_pairs_are_exported(tmp_path, capsys):
    store = tiny_run.make_run(str(tmp_path / "run"), shards=2)
    refilter(store, "strict", Rules({"registration": Bound(4.5, is_minimum=True)}))
    command = (store.url, "--format", "folder", "--out", tmp_path / "out")
    assert called(capsys, *command, "--view", "strict")[:2] == (
        0,
        f"{tmp_path}/out: 5 pairs as folder\n",
    )
    assert len([*(tmp_path / "out" / "rgb").iterdir()]) == 5
    code, _, err = called(capsys, *command)
    assert code == 1
    assert "has an export of other pairs" in err
