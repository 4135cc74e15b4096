"""The root command: help without heavy imports, near misses, one-line errors."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mfsynth.cli import _COMMANDS, cli


def mfsynth(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mfsynth.cli", *arguments], capture_output=True, text=True
    )


def test_help_lists_every_command():
    shown = mfsynth("--help")
    assert shown.returncode == 0
    for name in _COMMANDS:
        assert f"\n  {name} " in shown.stdout


@pytest.mark.parametrize("name", _COMMANDS)
def test_every_command_that_is_listed_has_help(name):
    command = cli.get_command(None, name)
    assert command.name == name
    assert command.help


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from mfsynth.cli import _COMMANDS, cli\n"
        "for name in _COMMANDS: cli.get_command(None, name)\n"
        "print(sorted({'torch', 'ray', 'numpy', 'pyarrow', 'pydantic'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_a_misspelt_command_is_told_its_right_name():
    shown = mfsynth("generat")
    assert shown.returncode != 0
    assert "did you mean 'generate'" in shown.stderr


def test_an_error_is_one_line_and_its_traceback_is_for_debug():
    shown = mfsynth("status", "no-such-run")
    assert shown.returncode == 1
    assert shown.stderr.startswith("error: ")
    assert shown.stderr.count("\n") == 1
    assert "Traceback" in mfsynth("--debug", "status", "no-such-run").stderr
