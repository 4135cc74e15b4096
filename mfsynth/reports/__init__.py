"""HTML report and contact sheet of a run."""

from __future__ import annotations

from mfsynth.geometry.colour import colour_bar, colour_depth
from mfsynth.reports.contact_sheet import contact_sheet
from mfsynth.reports.page import render_page
from mfsynth.reports.writing import write_report

__all__ = ["colour_bar", "colour_depth", "contact_sheet", "render_page", "write_report"]
