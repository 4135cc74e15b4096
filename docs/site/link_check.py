"""Whether every link of a built site leads somewhere."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.anchors.update(filter(None, (values.get("id"), values.get("name"))))
        if tag in {"a", "img", "script", "link"}:
            self.links.update(filter(None, (values.get("href"), values.get("src"))))


def broken_links(site: Path) -> list[str]:
    """Links within a folder of HTML that lead to no file or no anchor, with the page they are on.

    Links to other servers are not tried.
    """
    pages = {
        path.resolve(): _Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")
    }
    broken = []
    for path, page in pages.items():
        if path.name == "404.html":
            continue  # its links are absolute, for it is shown anywhere
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            found = pages.get(target)
            known = target.is_file() if found is None else True
            lost = found is not None and parts.fragment and parts.fragment not in found.anchors
            if not known or (lost and parts.fragment != "__skip"):
                broken.append(f"{path.relative_to(site.resolve())}: {link}")
    return broken
