"""The fenced blocks of README and docs, and the commands in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
_FENCE = re.compile(r"( *)```(\S*)")
_NOT_RUN = re.compile(r"<!-- not run: (.+) -->")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block.

    Attributes:
        page: Of the repository, such as `docs/tutorial.md`.
        line: Of its first line.
        language: As the fence says.
        text: Without the fence, and without its indentation.
        not_run: Why no test runs it, from the comment above; "" for one that is run.
    """

    page: str
    line: int
    language: str
    text: str
    not_run: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def file(self) -> str:
        """The file that it is, by a comment in its first line; "" for none."""
        found = re.match(r"# ([\w.]+\.yaml)\n", self.text)
        return found[1] if found else ""

    def commands(self) -> Iterator[list[str]]:
        """The words of each command of a shell's block, without comments."""
        for line in re.sub(r" *\\\n *", " ", self.text).splitlines():
            if words := shlex.split(line, comments=True):
                yield words


def blocks(*languages: str) -> list[Block]:
    """All blocks, or those of some languages."""
    return [
        block
        for page in PAGES
        for block in _blocks_of(page)
        if not languages or block.language in languages
    ]


def of_page(page: str) -> list[Block]:
    """The blocks of a page, in order."""
    return [*_blocks_of(ROOT / page)]


def _blocks_of(page: Path) -> Iterator[Block]:
    lines = page.read_text(encoding="utf-8").splitlines()
    number = 0
    while number < len(lines):
        if fence := _FENCE.fullmatch(lines[number]):
            end = lines.index(f"{fence[1]}```", number + 1)
            text = "".join(f"{line.removeprefix(fence[1])}\n" for line in lines[number + 1 : end])
            above = _NOT_RUN.fullmatch(lines[number - 1].strip())
            name = page.relative_to(ROOT).as_posix()
            yield Block(name, number + 2, fence[2], text, above[1] if above else "")
            number = end
        number += 1
