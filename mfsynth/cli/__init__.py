"""The command line: each command is a module that is imported when it is called."""

from __future__ import annotations

import contextlib
import errno
import importlib
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import click

from mfsynth.cli.output import echo, open_standard_streams
from mfsynth.errors import MfsynthError, RenamedWarning

_SECTIONS = {
    "Make pairs": {
        "generate": "Start or resume a run.",
        "annotate": "Give images depth: start or resume a run over a source.",
        "retexture": "Give depth images: start or resume a run over a source.",
        "reproduce": "Make one candidate of a run again, to see how it fails.",
    },
    "Before a run": {
        "config": "Show a run's settings with their origins, or check them.",
        "prompts": "Look at prompt libraries.",
        "data": "Look at images and depth before anything is made of them.",
        "plan": "Say what a run will take: shards, GPU hours, bytes, cost.",
        "doctor": "Look at store, machine, model and cluster before a run.",
    },
    "Look at runs": {
        "status": "Show how far a run is, from its storage alone.",
        "report": "Write an HTML page of a run's pairs, scores and rejects.",
        "view": "Show a run's pairs in Rerun, or write a recording.",
        "verify": "Check a run's shards against their commits.",
    },
    "Keep and choose": {
        "refilter": "Make another data set over a run's shards: other limits, no GPU.",
        "finalize": "Write manifest, data card and Croissant file of a run.",
        "copy": "Copy a run to another place.",
        "gc": "Mark what no commit refers to; a call a day later deletes it.",
    },
    "Hand on": {
        "export": "Write a run's pairs in the format of another program.",
        "push": "Bring a run's pairs to the Hugging Face hub, or to a folder in its layout.",
    },
    "Models and checks": {
        "train": "Train a model from a training configuration.",
        "distill": "Distil a model to a few sampling steps.",
        "evaluate": "Score a model's depth against ground truth.",
        "calibrate": "Measure checks on trusted pairs, and set their limits.",
        "model": "Look at a model, or convert a released checkpoint.",
    },
}
_COMMANDS = {name: told for section in _SECTIONS.values() for name, told in section.items()}


class _LazyGroup(click.Group):
    """A group that knows its commands' names and summaries without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        module = importlib.import_module(f"mfsynth.cli.{name}")
        return getattr(module, name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for name, commands in _SECTIONS.items():
            with formatter.section(name):
                formatter.write_dl(list(commands.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in _COMMANDS and not name.startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(name, _COMMANDS, n=1)
            hint = f"did you mean '{near[0]}'?" if near else "see 'mfsynth --help'"
            ctx.fail(f"no command '{name}'; {hint}")
        return super().resolve_command(ctx, args)


def _show_version(ctx: click.Context, parameter: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        from mfsynth.cli.versions import version_line

        echo(version_line())
        ctx.exit()


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the versions of mfsynth, torch, CUDA, Ray and Python.",
)
@click.option("--debug", is_flag=True, help="Show tracebacks of errors.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Verified synthetic RGB-D data sets from prompts."""
    ctx.obj = {"debug": debug}


@contextlib.contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """While it is entered, what mfsynth warns of is said as it says everything."""
    with warnings.catch_warnings():
        usual, said = warnings.showwarning, set[str]()

        def show(message: Warning | str, category: type[Warning], *rest: Any) -> None:
            if issubclass(category, RenamedWarning):
                # A command may read a configuration more than once.
                if f"{message}" not in said:
                    said.add(f"{message}")
                    echo(f"warning: {message}", err=True)
            else:
                usual(message, category, *rest)

        warnings.showwarning = show  # type: ignore[assignment]
        yield


def main(argv: list[str] | None = None) -> Any:
    """Run the command line; an error that a user can mend is one line and exit status 1."""
    open_standard_streams()
    arguments = sys.argv[1:] if argv is None else argv
    try:
        with _warnings_in_one_line():
            return cli.main(args=arguments, prog_name="mfsynth")
    except (MfsynthError, OSError) as error:
        told = _of_a_place(error) if isinstance(error, OSError) else str(error)
        if told is None or "--debug" in arguments:
            raise
        with contextlib.suppress(OSError, ValueError):
            echo(f"error: {told}", err=True)
        sys.exit(1)


def _of_a_place(error: OSError) -> str | None:
    """What is wrong with a path that a command was given, or a full disk; None of other errors."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        # Standard output has no name.
        where = error.filename if isinstance(error.filename, str) else "the output"
        return f"{where:.300}: {error.strerror}; make room there"
    # Whether something is there is asked in many places, and of these the answer is an error.
    if error.errno not in (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP):
        return None
    if not isinstance(error.filename, str):
        return None
    return f"{error.filename:.300}: {error.strerror}; check the path, and who may use it"
