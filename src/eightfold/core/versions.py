"""The versions that a result depends on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version


def read_versions() -> dict[str, str]:
    """Versions of eightfold, torch and Python, for the metadata of results; nothing is imported."""
    found = {"python": platform.python_version()}
    for name in ("eightfold", "torch"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found
