"""Steps that are left out: those whose gradient isn't finite, which would spoil every weight."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mfsynth.errors import MfsynthError

# So many in a row won't mend themselves.
MAX_SKIPPED_STEPS = 10


@dataclass
class SkippedSteps:
    """Those in a row until now.

    Attributes:
        lower: What may help against them, as a user calls it.
    """

    lower: str
    _in_a_row: int = 0

    def leaves_out(self, gradient_norm: float, step: int) -> bool:
        """Whether a step is to be left out.

        Args:
            gradient_norm: The step's, of all weights and processes.
            step: How many were taken, with this one.

        Raises:
            MfsynthError: So many were in a row, with this one, that they won't mend themselves.
        """
        finite = math.isfinite(gradient_norm)
        self._in_a_row = 0 if finite else self._in_a_row + 1
        if self._in_a_row == MAX_SKIPPED_STEPS:
            raise MfsynthError(
                f"the gradient was infinite or NaN in {MAX_SKIPPED_STEPS} steps in a row, to step "
                f"{step}; lower {self.lower}, and begin anew in another output"
            )
        return not finite
