"""From the configuration to a prompt source."""

from __future__ import annotations

from mfsynth.config.schema import PromptsConfig
from mfsynth.prompts.library import load_library
from mfsynth.prompts.prompt import PromptSource


def open_prompts(config: PromptsConfig, seed: int) -> PromptSource:
    """Open the prompt source of a run.

    Args:
        config: Names a library or a file.
        seed: The run's seed; the rows of a file come in their own order, whatever the seed.

    Raises:
        MfsynthError: One line that names the file, the place in it, and what to do.
    """
    if config.library is not None:
        return load_library(config.library, seed)
    # Reading libraries needs no pyarrow, which takes a quarter of a second to import.
    from mfsynth.prompts.files import open_file

    assert config.file is not None
    return open_file(config.file, config.column)
