"""How many cores a process may use, under a scheduler and in a container."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mfsynth import processes

V1 = "4:memory:/docker/ab\n3:cpuset:/\n2:cpu,cpuacct:/docker/ab\n"


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


def limits(own: str, mounted: Path) -> list[float]:
    return [*processes._cgroup_limits(own, mounted)]


def test_the_tightest_of_the_groups_that_a_process_is_in_counts(tmp_path):
    write(tmp_path, cpu__stat="")
    write(tmp_path / "user.slice", cpu__max="250000 100000")
    write(tmp_path / "user.slice/job", cpu__max="max 100000")
    assert limits("0::/user.slice/job\n", tmp_path) == [2.5]
    assert limits("0::/\n", tmp_path) == []


@pytest.mark.parametrize("group", ["/", "/kubepods/pod1/ab", "/../../ab"])
def test_in_a_container_the_limit_is_where_its_groups_begin(tmp_path, group):
    write(tmp_path, cpu__max="50000 100000")
    assert limits(f"0::{group}\n", tmp_path) == [0.5]


@pytest.mark.parametrize("place", ["cpu", "cpu/docker/ab"])
@pytest.mark.parametrize(("quota", "found"), [("400000", [4.0]), ("-1", [])])
def test_version_1_has_files_for_quota_and_period(tmp_path, place, quota, found):
    write(tmp_path / place, cpu__cfs_quota_us=quota, cpu__cfs_period_us="100000")
    write(tmp_path / "cpuset", cpu__max="100000 100000")
    assert limits(V1, tmp_path) == found


@pytest.mark.parametrize("text", ["", "max", "a b", "100000 0"])
def test_what_says_nothing_is_no_limit(tmp_path, text):
    write(tmp_path, cpu__max=text)
    assert limits("0::/\n", tmp_path) == []


def test_cores_are_those_of_affinity_and_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "_CGROUPS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {*range(8)}, raising=False)
    assert processes.usable_cores() == 8
    write(tmp_path, cpu__max="150000 100000")
    write(tmp_path / "cpu", cpu__cfs_quota_us="150000", cpu__cfs_period_us="100000")
    assert processes.usable_cores() == 2


def test_fewer_cores_are_allowed_than_there_are():
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
        "from mfsynth.processes import usable_cores; print(usable_cores())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
