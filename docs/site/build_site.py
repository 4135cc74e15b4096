"""The site: the pages of `docs/`, those made of the code, and the files that they link to.

    python docs/site/build_site.py

Everything is laid out in `out/docs/pages`, then built by Zensical; a warning of it, or a link or
anchor that leads nowhere, is an error.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
from command_pages import command_page
from configuration_pages import configuration_pages
from laying_out import Pages
from link_check import broken_links

import mfsynth

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "out" / "docs" / "pages"
SITE = ROOT / "out" / "docs" / "site"

_OFFERED = "<!-- what `import mfsynth` offers -->"


@click.command()
def main() -> None:
    """Build the site into out/docs/site."""
    lay_out(PAGES)
    # Its cache doesn't know pages that are gone.
    shutil.rmtree(SITE, ignore_errors=True)
    build = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    if subprocess.run(build, cwd=ROOT, check=False).returncode:
        sys.exit("the site was not built, for what stands above")
    if broken := broken_links(SITE):
        sys.exit("links that lead nowhere:\n" + "\n".join(broken))
    click.echo(f"{len([*SITE.rglob('index.html')])} pages: {SITE / 'index.html'}")


def lay_out(folder: Path) -> None:
    """Write all pages and what they show into a folder, anew."""
    shutil.rmtree(folder, ignore_errors=True)
    pages = Pages(ROOT)
    for source in sorted((ROOT / "docs").rglob("*")):
        if source.suffix in {".md", ".svg", ".png", ".css"}:
            pages.add(source)
    for name in ("CHANGELOG.md", "CONTRIBUTING.md"):
        pages.add(ROOT / name)
    for name, text in configuration_pages().items():
        pages.add_text(f"reference/configuration/{name}", text)
    pages.add_text("reference/command-line.md", command_page())
    pages.add_text("reference/configuration/shipped.md", _shipped(pages))
    python = pages.texts["reference/python.md"]
    pages.add_text("reference/python.md", python.replace(_OFFERED, _offered()))
    pages.write(folder)


def _shipped(pages: Pages) -> str:
    parts = [
        "# Shipped configurations and prompt libraries",
        "A command takes each of them by its name: `mfsynth generate local`, `mfsynth train "
        "estimator`, `mfsynth prompts preview kitchen`. Copy one, or change single settings with "
        "`--set`.",
    ]
    for folder in ("configs", "prompts"):
        for source in sorted((ROOT / folder).rglob("*.yaml")):
            path = source.relative_to(ROOT).as_posix()
            target = os.path.relpath(pages.add(source), "reference/configuration")
            parts.append(f"- [`{path}`]({target})")
    return "\n\n".join(parts[:2]) + "\n\n" + "\n".join(parts[2:]) + "\n"


def _offered() -> str:
    names = [name for name in mfsynth.__all__ if not name.startswith("__")]
    found = [getattr(mfsynth, name) for name in names]
    return "\n\n".join(f"::: {thing.__module__}.{thing.__qualname__}" for thing in found)


if __name__ == "__main__":
    main()
