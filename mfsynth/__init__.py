"""Verified synthetic RGB-D data sets from prompts, with Modality Forcing."""

from __future__ import annotations

__version__ = "0.1.0"
