"""Verified synthetic RGB-D data sets from prompts, with Modality Forcing."""

__version__ = "0.1.0"
