"""Copies of committed pairs in the formats that other programs read, one file a format.

A format is an `Exporter` (`base`); `exporting` takes a data set through one, and goes on where it
was killed. What each holds and loses: `docs/how-to/exports.md`.
"""
