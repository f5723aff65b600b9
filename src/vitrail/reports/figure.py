"""A score with its interval."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Figure:
    """A score, and the middle 95 % of its bootstrap resamples; both bounds None without."""

    value: float
    low: float | None
    high: float | None

    @classmethod
    def of(cls, value: float, resampled: npt.NDArray[np.float64]) -> "Figure":
        """As sacreBLEU's intervals: a 40th of the resamples is left out at each end."""
        if not len(resampled):
            return cls(float(value), None, None)
        ordered = np.sort(resampled)
        cut = len(ordered) // 40
        return cls(float(value), float(ordered[cut]), float(ordered[-cut - 1]))

    def to_text(self) -> str:
        """As 0.812 [0.790, 0.833]."""
        return f"{self.value:.3f}" + ("" if self.low is None or self.high is None else f" [{self.low:.3f}, {self.high:.3f}]")
