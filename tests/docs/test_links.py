"""Links of README and docs, and names of pages in code, lead to files that are there.

`make docs` also checks anchors and what the site is made of.
"""

from __future__ import annotations

import re
import subprocess

import pytest
from fenced import PAGES, ROOT

# Made when the site is built.
MADE = re.compile(r"reference/(configuration/\w+|command-line)\.md$")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_each_link_of_a_page_leads_to_a_file(page):
    prose = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose)
    broken = [
        target
        for target in targets
        if not re.match(r"[a-z]+:", target)
        and not (page.parent / target).exists()
        and not MADE.search((page.parent / target).resolve().as_posix())
    ]
    assert not broken


def test_each_page_that_code_names_is_there():
    command = ["git", "grep", "-hoE", r"\bdocs/[a-z/_-]+\.(md|jsonl|png)\b"]
    names = subprocess.check_output(command, cwd=ROOT, text=True).split()
    # Results that a benchmark writes when it is called; a page of another project.
    written = {f"docs/results/{name}.jsonl" for name in ("goals", "proof")}
    written.add("docs/bop_datasets_format.md")
    assert [name for name in {*names} - written if not (ROOT / name).exists()] == []
