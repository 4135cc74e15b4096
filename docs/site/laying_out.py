"""From files of the repository to pages of the site: where they lie, and what they link to."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

_LINK = re.compile(r"(!?\[[^\]]*\])\(([^)\s]+)\)")
_FENCE = re.compile(r"^( *)(`{3,})")
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".sh": "bash", ".json": "json"}
_AT_THE_TOP = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}


class Pages:
    """Pages of a site, each with the files that it links to, which become pages as well.

    Attributes:
        texts: Markdown by the page's path.
        files: What is copied as it is, by the path it gets.
    """

    def __init__(self, root: Path) -> None:
        """Pages of the repository whose root this is."""
        self._root = root
        self.texts: dict[str, str] = {}
        self.files: dict[str, Path] = {}

    def add(self, source: Path) -> str:
        """Add a file of the repository, and what it links to; returns the path that it gets."""
        name = source.resolve().relative_to(self._root).as_posix()
        path = self._path(name)
        if path in self.texts or path in self.files:
            return path
        if source.suffix in {".png", ".svg", ".css"}:
            self.files[path] = source
        elif source.suffix == ".md":
            self.texts[path] = ""  # so that pages may link to each other
            self.texts[path] = self._with_links(source.read_text(encoding="utf-8"), source, path)
        else:
            self.texts[path] = _listing(name, source)
        return path

    def add_text(self, path: str, text: str) -> None:
        """Add a page that was made."""
        self.texts[path] = text

    def write(self, folder: Path) -> None:
        """Write all of it into a new folder."""
        for path, text in self.texts.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        for path, source in self.files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)

    @staticmethod
    def _path(name: str) -> str:
        if name.startswith("docs/"):
            return name.removeprefix("docs/")
        if name in _AT_THE_TOP:
            return _AT_THE_TOP[name]
        # What begins with a dot is no page.
        path = f"files/{name}".replace("/.", "/")
        return path if name.endswith((".md", ".png")) else f"{path}.md"

    def _with_links(self, text: str, source: Path, path: str) -> str:
        """The text with links as the site has them, and lists as its Markdown has them."""

        def turned(match: re.Match[str]) -> str:
            words, target = match.groups()
            if re.match(r"[a-z]+:|#", target):
                return match[0]
            file, hash_, anchor = target.partition("#")
            wanted = source.parent / file
            # Pages that are made at build time have no file yet.
            if not wanted.is_file():
                return match[0]
            found = os.path.relpath(self.add(wanted), Path(path).parent)
            return f"{words}({found}{hash_}{anchor})"

        return "".join(
            part if is_code else _LINK.sub(turned, part) for part, is_code in _parts(text)
        )


def _parts(text: str) -> Iterator[tuple[str, bool]]:
    """Prose and fenced code in turn, and whether it is code.

    What belongs to an item of a list is indented by two in the repository, by four in the site.
    """
    prose: list[str] = []
    fence, indent = "", 0
    for line in text.splitlines(keepends=True):
        if fence:
            yield " " * indent + line, True
            if line.strip() == fence:
                fence = ""
        elif match := _FENCE.match(line):
            yield "".join(prose), False
            prose = []
            indent, fence = len(match[1]), match[2]
            yield " " * indent + line, True
        else:
            prose.append(" " * (len(line) - len(line.lstrip(" "))) + line)
    yield "".join(prose), False


def _listing(name: str, source: Path) -> str:
    """A page that shows a file of the repository."""
    text = source.read_text(encoding="utf-8")
    language = _LANGUAGES.get(source.suffix, "text")
    return f"# `{name}`\n\n````{language}\n{text}````\n"
