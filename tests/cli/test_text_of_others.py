"""Text that comes with data is shown on a terminal; it doesn't act on one."""

from __future__ import annotations

import ast
import json
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import mfsynth
from mfsynth.cli import main
from mfsynth.cli.output import echo
from mfsynth.cli.prompts import prompts
from mfsynth.errors import MfsynthError
from mfsynth.formatting import one_line, printable, shell_line

PACKAGE = Path(mfsynth.__file__).parent
# Clear the screen, set the title, C1's CSI, text that runs backwards, a line of its own.
ATTACK = "a\x1b[2J\x1b]0;title\x07\x9b2J\u202eb\u2028c\rd"


def controls(text: str) -> set[str]:
    return {character for character in text if not character.isprintable()} - {"\n"}


def test_control_characters_are_shown_in_place():
    shown = printable(ATTACK)
    assert shown == ("a\\u001b[2J\\u001b]0;title\\u0007\\u009b2J\\u202eb\\u2028c\\u000dd")
    assert printable("né\tà\n日本 😀") == "né\tà\n日本 😀"
    assert one_line("a\nb\tc") == "a\\nb\\tc"


@given(st.text(st.characters()))
def test_whatever_the_text_it_is_one_line_that_can_be_encoded(text):
    line = one_line(text)
    line.encode()
    assert len(line.splitlines()) <= 1
    assert json.loads(printable(json.dumps(text, ensure_ascii=False))) == text


def test_a_long_text_keeps_its_ends():
    line = one_line(f"FILE: {'x' * 10**6}; mend it", 100)
    assert len(line) < 110
    assert line.startswith("FILE: ")
    assert line.endswith("; mend it")


def test_errors_are_one_line_with_an_end_whatever_they_are_made_of():
    error = MfsynthError(f"{ATTACK}\n{'x' * 10**6}: no such column")
    assert not controls(str(error))
    assert len(str(error)) < 2100
    assert "\n" not in str(error)
    assert str(error).endswith("no such column")


def test_commands_speak_by_one_function_alone():
    """`echo`; rich shows what is escaped before."""
    for path in PACKAGE.glob("cli/*.py"):
        if path.name == "output.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute | ast.Name):
                assert ast.unparse(node) not in ("click.echo", "click.secho", "print"), path


def test_what_commands_say_sends_no_control_characters(capsys):
    echo(f"{ATTACK}\nnext")
    assert not controls(capsys.readouterr().out)


@pytest.mark.parametrize("terminal", [False, True])
def test_a_preview_shows_prompts_as_they_are_and_one_a_line(tmp_path, monkeypatch, terminal):
    path = tmp_path / "own.yaml"
    path.write_text(
        'templates: ["mug\\e[2J\\x9b2J\\n7: false line {colour}"]\n'
        'slots: {colour: ["red\\e[1m[bold]", blue]}\n'
    )
    monkeypatch.setenv("FORCE_COLOR" if terminal else "UNUSED", "1")
    monkeypatch.setenv("TERM", "xterm")
    result = CliRunner().invoke(prompts, ["preview", str(path), "--samples", "3"])
    assert result.exit_code == 0, result.output
    assert "\x1b[2J" not in result.output
    assert "\x9b" not in result.output
    assert "\\u001b[2J" in result.output
    assert not any(line.startswith("7: false") for line in result.output.splitlines())


def test_an_error_on_the_command_line_is_bounded_and_sends_nothing(tmp_path, capsys):
    path = tmp_path / "p.yaml"
    path.write_text(json.dumps({"\u001b[2J" + "x" * 10**5: 1, "templates": ["a"]}))
    with pytest.raises(SystemExit):
        main(["prompts", "preview", str(path)])
    shown = capsys.readouterr().err
    assert not controls(shown)
    assert len(shown) < 2200


def test_a_line_to_type_is_safe_to_type():
    url = "s3://bucket/a b;rm -rf $HOME`id`\n'x'"
    line = shell_line("mfsynth", "reproduce", "/a b/$(id)", 7)
    assert shlex.split(line) == ["mfsynth", "reproduce", "/a b/$(id)", "7"]
    assert "\n" not in shell_line("mfsynth", "verify", url)
