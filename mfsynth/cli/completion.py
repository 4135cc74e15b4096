"""What a shell may complete that isn't a command or an option."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Completer = Callable[[click.Context, click.Parameter, str], "list[CompletionItem]"]


def names_of(*kinds: str) -> Completer:
    """Completes the names of shipped resources, and paths.

    Args:
        kinds: `configs`, `prompts`, or folders in them.
    """

    def complete(
        context: click.Context, parameter: click.Parameter, typed: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        from mfsynth.config.resources import resource_names

        names: Sequence[str] = [name for kind in kinds for name in resource_names(kind)]
        found = [CompletionItem(name) for name in names if name.startswith(typed)]
        # The shell itself completes paths.
        return [*found, CompletionItem(typed, type="file")]

    return complete
