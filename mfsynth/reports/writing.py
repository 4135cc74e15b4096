"""A run's report as a file."""

from __future__ import annotations

from pathlib import Path

from mfsynth.reports.collect import collect_report, links_from, page_path
from mfsynth.reports.page import page_that_fits
from mfsynth.storage.atomic import write_document


def write_report(
    url: str, out: Path | None = None, *, pairs: int = 48, view: str | None = None
) -> Path:
    """Write the page of a run, or of a view of it; see `mfsynth.reports.collect.collect_report`.

    Visible: as a whole, over its predecessor.

    Args:
        url: Local path or fsspec URL of the run.
        out: The page; by default `report.html`, of a view `report-NAME.html`, in a run on a local
            disk, and here, named after the run, of any other.
        pairs: Most accepted pairs to show.
        view: Name of the view.

    Returns:
        Where it is.

    Raises:
        MfsynthError: There is no run or view, a committed shard is missing or damaged, or the page
            can't be written.
    """
    content = collect_report(url, pairs=pairs, view=view)
    path = page_path(url, content.run_id, view) if out is None else out
    write_document(path, page_that_fits(content, links_from(path, url)))
    return path
