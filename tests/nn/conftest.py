"""Compiled kernels are kept where those of the kernels' own tests are."""

from __future__ import annotations

from pathlib import Path

from eightfold.nn.kernels.ready import find_missing, load_kernels

KEPT = Path(__file__).parents[2] / ".pytest_cache" / "kernels"

if not find_missing():
    load_kernels(KEPT)
