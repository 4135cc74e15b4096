"""`python -m mfsynth.cli`, for environments without the installed script."""

from __future__ import annotations

from mfsynth.cli import main

main()
