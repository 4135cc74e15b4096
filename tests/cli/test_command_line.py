"""The root command: help without heavy imports, near misses, one-line errors."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import mfsynth as library
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


def all_commands(group: click.Group = cli) -> Iterator[click.Command]:
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        if isinstance(command, click.Group):
            yield from all_commands(command)
        else:
            yield command


def test_every_argument_that_may_be_left_out_has_its_default_in_the_help():
    defaults = {}
    for command in all_commands():
        for argument in command.params:
            if isinstance(argument, click.Argument) and isinstance(argument.default, str):
                assert f" [default: {argument.default}]" in command.help
                defaults[command.name] = argument.default
    assert defaults["generate"] == "local"
    assert defaults["evaluate"] == "embedded"


@pytest.mark.parametrize("command", ["train", "distill"])
def test_hours_of_work_are_not_begun_without_a_configuration(command):
    shown = CliRunner().invoke(cli, [command])
    assert shown.exit_code == 2
    assert "Missing argument 'CONFIG'" in shown.output


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from mfsynth.cli import _COMMANDS, cli\n"
        "for name in _COMMANDS: cli.get_command(None, name)\n"
        "print(sorted({'torch', 'ray', 'numpy', 'pyarrow', 'pydantic'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["train", "embeded"], "did you mean embedded?"),
        (["distill", "embeded"], "did you mean embedded?"),
        (["train", "embedded", "--set", "nois.rgb_mu=1"], "--set: nois: unknown key"),
        (["train", "estimator", "--set", "data.0.pth=x"], "--set: data.0.pth: unknown key"),
        (["distill", "embedded", "--set", "techer.steps=1"], "--set: techer: unknown key"),
    ],
)
def test_a_mistake_in_a_configuration_is_told_before_anything_waits_for_torch(arguments, problem):
    code = (
        "import sys; from mfsynth.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print('torch' in sys.modules)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert shown.returncode == 1
    assert problem in shown.stderr
    assert shown.stdout.strip() == "False"


@pytest.mark.slow
def test_what_libraries_say_of_themselves_is_not_shown():
    shown = mfsynth("evaluate", "--set", "model.id=/no/such/model")
    assert shown.stderr.splitlines() == [
        "error: model.id: '/no/such/model': no such folder; name one that exists, or a hub id such "
        "as someone/model"
    ]


def test_loading_a_model_shows_nothing(capfd, caplog):
    library.load_pipeline("embedded")
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.name.startswith("diffusers")]


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


def test_output_that_a_full_disk_does_not_take_is_one_line():
    with Path("/dev/full").open("w") as full:
        shown = subprocess.run(
            [sys.executable, "-m", "mfsynth.cli", "prompts", "list"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert shown.returncode == 1
    assert shown.stderr == "error: the output: No space left on device; make room there\n"


@pytest.mark.parametrize("given", ["1e6", "1.5", "0", "many"])
def test_numbers_of_pairs_are_whole_and_in_digits(given):
    shown = CliRunner().invoke(cli, ["plan", "--pairs", given])
    assert shown.exit_code == 2
    assert f"{given!r} must be an integer of at least 1, in digits: 1000000" in shown.output
