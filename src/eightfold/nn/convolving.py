"""What makes the convolutions of a graph: torch. `fast.FastKernels` makes most of them with fewer operations."""

from __future__ import annotations

from .graph import Convolve
from .kernels.moments import Moments
from .rows import Rows, Size, convolve, to_table

# Multiplications and additions a second of one core of the processor that rates are of, float32 (`REFERENCE`: what its products of
# large matrices make); others are scaled by it
REFERENCE = 100e9
DIRECT, LINEAR = 75e9, 90e9


class Kernels:
    """What makes convolutions: here torch. `fast.FastKernels` makes some of them with fewer operations."""

    name = "torch"

    def is_fast(self, layer: Convolve, size: Size) -> bool:
        """Whether a layer whose result has this size is not run by torch."""
        return False

    def count_weights(self, layer: Convolve, size: Size, rows: int) -> int:
        """Bytes of a fast layer's prepared weights, to make so many rows at once of a result of this size."""
        return 0

    def count_scratch(self, layer: Convolve, size: Size, rows: int) -> int:
        """Bytes that all threads together work in, to make so many rows of a fast layer's result of this size."""
        return 0

    def count_packing(self, layer: Convolve, size: Size, rows: int) -> float:
        """Seconds that preparing these weights takes."""
        return 0.0

    def find_rate(self, layer: Convolve, size: Size, rows: int) -> float:
        """Operations a second of one core of the reference in `cost`, counted as a direct convolution would need them."""
        return LINEAR if layer.kernel == 1 else DIRECT

    def convolve(self, layer: Convolve, source: Rows, target: Rows, moments: Moments | None, residual: Rows | None) -> Moments | None:
        """Write the rows that `target` holds; the moments of these, if they were no extra work. `moments` are those of the whole source."""
        convolve(layer, source, target, table=to_table(layer.before, moments), residual=residual)
        return None

    def end_run(self) -> None:
        """Called when a run is over, however it ended."""

    def end_pass(self, keep: bool) -> None:
        """Called between passes: `keep` what was prepared for later ones."""
