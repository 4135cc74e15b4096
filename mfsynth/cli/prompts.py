"""`mfsynth prompts`: look at prompts before a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mfsynth.cli.completion import names_of
from mfsynth.cli.output import echo
from mfsynth.formatting import first_of, one_line

if TYPE_CHECKING:
    from rich.console import Console

    from mfsynth.config import ModelConfig
    from mfsynth.prompts import PromptSource
    from mfsynth.prompts.coverage import SlotCoverage

_MISSING_SHOWN = 4


@click.group()
def prompts() -> None:
    """Look at prompts before a run."""


@prompts.command()
@click.argument("source", metavar="CONFIG|LIBRARY", shell_complete=names_of("configs", "prompts"))
@click.option(
    "--samples", type=click.IntRange(min=1), default=8, show_default=True, help="Prompts."
)
@click.option(
    "--candidates",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Candidates over which coverage is counted.",
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Set a key of CONFIG.")
def preview(source: str, samples: int, candidates: int, overrides: tuple[str, ...]) -> None:
    """Show sample prompts, the size of the space, and how well its slots are covered.

    The argument is a run's configuration or a prompt library: a YAML file, or the name of one in
    configs/ or prompts/. Says which words the model doesn't know, and which prompts it would cut:
    the model of the configuration; with a library, the embedded one.
    """
    from rich.console import Console

    from mfsynth.prompts import Grammar
    from mfsynth.prompts.coverage import coverage
    from mfsynth.runs.understanding import understanding, vocabulary_of

    opened, model = _open(source, overrides)
    slots = coverage(opened, range(candidates)) if isinstance(opened, Grammar) else ()
    texts = [opened.prompt(candidate).text for candidate in range(samples)]
    looked_at = [opened.prompt(candidate).text for candidate in range(candidates)]
    read = understanding(vocabulary_of(model), looked_at)
    console = Console()
    if console.is_terminal:
        _show_rich(console, opened, texts, slots, candidates)
    else:
        _show_plain(opened, texts, slots, candidates)
    if read is None:
        echo(f"model {model.id}: its tokenizer is not on this machine, so its words are not known")
    elif read.trouble:
        echo(f"model {model.id}: {read.trouble}")
    else:
        echo(f"model {model.id}: knows all words of {read.prompts} prompts, and reads them whole")


@prompts.command(name="list")
def list_libraries() -> None:
    """List the prompt libraries that come with mfsynth: size, slots and a prompt of each."""
    from mfsynth.config.resources import resource_names
    from mfsynth.prompts import load_library

    for name in resource_names("prompts"):
        library = load_library(name)
        echo(f"{name}: {_count(library.size)} prompts; {first_of(library.slot_names, 12)}")
        echo(f"  {one_line(library.prompt(0).text)}")


def _open(source: str, overrides: tuple[str, ...]) -> tuple[PromptSource, ModelConfig]:
    from mfsynth.config import ModelConfig
    from mfsynth.config.documents import read_yaml
    from mfsynth.config.resources import is_path, resource_names
    from mfsynth.config.suggestions import did_you_mean
    from mfsynth.errors import MfsynthError
    from mfsynth.prompts import load_library, open_prompts
    from mfsynth.runs.settings import load_run_config

    if is_path(source):
        document = read_yaml(source, "configuration or prompt library")
        is_library = isinstance(document, dict) and "templates" in document
    else:
        is_library = source not in resource_names("configs") and source in resource_names("prompts")
        if not is_library and source not in resource_names("configs"):
            known = (*resource_names("configs"), *resource_names("prompts"))
            raise MfsynthError(
                f"{source!r}: neither a configuration nor a prompt library; "
                f"{did_you_mean(source, known)}"
            )
    if not is_library:
        config = load_run_config(source, overrides)
        if config.prompts is None:
            raise MfsynthError(f"{source}: has no prompts: its texts are its source's")
        return open_prompts(config.prompts, config.seed), config.model
    if overrides:
        raise MfsynthError(f"--set {overrides[0]}: {source} is a prompt library; name a CONFIG")
    return load_library(source), ModelConfig()


def _size_line(source: PromptSource, texts: list[str]) -> str:
    different = f"{len(set(texts))} of the {len(texts)} shown are different"
    return f"space: {_count(source.size)} prompts; {different}"


def _count(size: int) -> str:
    return f"{size:,}" if size < 10**15 else f"{size:.2e}"


def _missing(slot: SlotCoverage) -> str:
    shown = ", ".join(option or '""' for option in slot.missing[:_MISSING_SHOWN])
    rest = len(slot.missing) - _MISSING_SHOWN
    return f"{shown} and {rest} more" if rest > 0 else shown


def _show_plain(
    source: PromptSource, texts: list[str], slots: tuple[SlotCoverage, ...], candidates: int
) -> None:
    for candidate, text in enumerate(texts):
        echo(f"{candidate}: {one_line(text)}")
    echo(_size_line(source, texts))
    if slots:
        echo(f"coverage of slots by {candidates} candidates:")
    for slot in slots:
        missing = f", never: {one_line(_missing(slot))}" if slot.missing else ""
        echo(f"  {slot.slot}: {slot.seen}/{len(slot.options)}{missing}")


def _show_rich(
    console: Console,
    source: PromptSource,
    texts: list[str],
    slots: tuple[SlotCoverage, ...],
    candidates: int,
) -> None:
    from rich.markup import escape
    from rich.table import Table

    samples = Table("candidate", "prompt", title="Prompts", title_justify="left")
    for candidate, text in enumerate(texts):
        samples.add_row(str(candidate), escape(one_line(text)))
    console.print(samples)
    console.print(_size_line(source, texts))
    if not slots:
        return
    table = Table(title=f"Coverage of slots by {candidates} candidates", title_justify="left")
    table.add_column("slot")
    table.add_column("options seen", justify="right")
    table.add_column("never chosen")
    for slot in slots:
        colour = "yellow" if slot.missing else "green"
        seen = f"[{colour}]{slot.seen}/{len(slot.options)}[/]"
        table.add_row(slot.slot, seen, escape(one_line(_missing(slot))))
    console.print(table)
