"""`python -m mfsynth.cli`, for environments without the installed script."""

from mfsynth.cli import main

main()
