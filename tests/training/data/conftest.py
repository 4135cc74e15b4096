"""What tests of training data share."""

import pytest

from mfsynth.errors import MfsynthError


@pytest.fixture(scope="session")
def opengl():
    """Skips where this machine can't render; the error says what to install."""
    from mfsynth.simulation.gl import gl_context

    try:
        gl_context()
    except MfsynthError as error:
        pytest.skip(str(error))
