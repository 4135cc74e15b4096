"""`generate --dry-run` on a real cluster: a run on one screen, and nothing made."""

from __future__ import annotations

import re

import pytest

from mfsynth.cli import main


def test_a_dry_run_shows_prompts_plan_and_findings_and_makes_nothing(run_folder, cluster, capsys):
    runtime = run_folder.values["runtime"] | {"ray_address": cluster}
    with pytest.raises(SystemExit) as ended:
        main(["generate", str(run_folder.file(runtime=runtime)), "--dry-run"])
    lines = capsys.readouterr().out.splitlines()
    assert ended.value.code == 0, lines
    assert lines[0] == f"run          small, to {run_folder.output}: nothing is made"
    assert re.fullmatch("text 0       a (red cube|blue ball|blue cube)", lines[1])
    assert re.match("plan         .*/out has no committed shard to measure", lines[5])
    assert any(re.match("ok +cluster ", line) for line in lines)
    assert re.search("[0-9]+ ok$", lines[-1])
    assert not run_folder.output.exists() or not [*run_folder.output.iterdir()]
