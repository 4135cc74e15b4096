"""The page of the command line, made of the commands themselves."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import click

from mfsynth.cli import cli


def all_commands() -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, with the words that call it."""
    yield from _commands("mfsynth", cli)


def command_page() -> str:
    """The page, in Markdown."""
    parts = [
        "# Command line",
        "Every command has `--help`. `mfsynth --debug COMMAND …` shows the traceback of an error. "
        "Configurations are files, URLs, or names of [shipped ones](configuration/shipped.md); "
        "`--set a.b=c` changes a setting, with `c` in YAML, and may be repeated.",
    ]
    for words, command in all_commands():
        context = click.Context(command, info_name=words)
        usage = " ".join(command.collect_usage_pieces(context))
        parts += [f"## {words}", f"```text\n{words} {usage}\n```", _help(command)]
        rows = [_row(option) for option in command.params if isinstance(option, click.Option)]
        if rows:
            parts.append("\n".join(["| option | default | meaning |", "|---|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def _commands(words: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield words, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None  # the group has just listed it
        yield from _commands(f"{words} {name}", found)


def _help(command: click.Command) -> str:
    text = inspect.cleandoc(command.help or "").replace("\f", "")
    # Lines that click is told not to wrap are a table or an example.
    blocks = []
    for block in text.split("\n\n"):
        if block.startswith("\b\n"):
            blocks.append("```text\n" + block.removeprefix("\b\n") + "\n```")
        else:
            blocks.append(block.replace("<", "&lt;"))
    return "\n\n".join(blocks)


def _row(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    if not option.is_flag:
        names += f" {_metavar(option)}"
    shown: Any = option.default if option.show_default else ""
    default = f"`{shown}`" if shown not in ("", None) and not option.is_flag else ""
    words = (option.help or "") + (" Required." if option.required else "")
    return f"| {names} | {default} | {words} |".replace("\n", " ")


def _metavar(option: click.Option) -> str:
    if option.metavar:
        return f"`{option.metavar}`"
    if isinstance(option.type, click.Choice):
        return ", ".join(f"`{choice}`" for choice in option.type.choices)
    return f"`{option.type.name.upper()}`"
