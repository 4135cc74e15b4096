"""Paths that lead nowhere, or where one may not go, are one line."""

from __future__ import annotations

import pytest
from locked_folders import locked

from mfsynth.cli import main


def ended(capsys, *arguments) -> tuple[int, str]:
    with pytest.raises(SystemExit) as end:
        main([*map(str, arguments)])
    return end.value.code or 0, capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ("status",),
        ("verify",),
        ("gc",),
        ("report",),
        ("finalize",),
        ("refilter", "--name", "a"),
        ("reproduce", "0"),
    ],
)
def test_a_folder_that_one_may_not_enter_is_one_line(run_store, capsys, command):
    name, *options = command
    ended(capsys, name, run_store.url, *options)  # whoever may not enter may not import, either
    with locked(run_store.local_root.parent):
        code, told = ended(capsys, name, run_store.url, *options)
    assert code == 1
    assert told.startswith(f"error: {run_store.url}")
    assert "Permission denied" in told
    assert told.count("\n") == 1


def test_names_that_are_too_long_and_links_in_a_circle_are_one_line(run_store, capsys, tmp_path):
    code, told = ended(capsys, "status", tmp_path / ("x" * 5000))
    assert (code, told.count("\n"), "File name too long" in told) == (1, 1, True)
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    code, told = ended(capsys, "copy", run_store.url, circle)
    assert (code, told.count("\n")) == (1, 1)
    assert str(circle) in told
