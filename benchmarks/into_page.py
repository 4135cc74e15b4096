"""Put what a command prints into a page, so that no figure there is typed.

    python benchmarks/model_card.py | python benchmarks/into_page.py PAGE NAME

It replaces what stands between `<!-- NAME: by a command -->` and `<!-- end of NAME -->`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TextIO

import click


@click.command()
@click.argument("page", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("name")
@click.argument("printed", type=click.File(encoding="utf-8"), default="-")
def main(page: Path, name: str, printed: TextIO) -> None:
    """Replace the block NAME of PAGE by what is read."""
    text = printed.read().strip()
    if not text:
        raise click.ClickException("nothing was printed: the page stays as it was")
    first, last = f"<!-- {name}: by a command -->", f"<!-- end of {name} -->"
    before = page.read_text(encoding="utf-8")
    block = re.compile(f"{re.escape(first)}.*?{re.escape(last)}", re.DOTALL)
    after, count = block.subn(lambda _: f"{first}\n\n{text}\n\n{last}", before)
    if count != 1:
        raise click.ClickException(f"{page} has {count} places for {name}: write {first} {last}")
    page.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
