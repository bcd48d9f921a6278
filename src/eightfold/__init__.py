"""Eightfold: a latent diffusion workbench.

The public names below are loaded when they are first used: importing the package imports neither torch nor anything else that is heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .codec.latentfile import Latent, read_latent
    from .codec.pixels import Picture, read_picture
    from .core.errors import EightfoldError
    from .pipelines.bundle import Model, load
    from .pipelines.bundle import load_autoencoder as autoencoder
    from .pipelines.like import read_likeness
    from .pipelines.metadata import read_provenance
    from .pipelines.provenance import Provenance
    from .pipelines.request import Request
    from .pipelines.transcode import roundtrip

__all__ = [
    "EightfoldError",
    "Latent",
    "Model",
    "Picture",
    "Provenance",
    "Request",
    "autoencoder",
    "load",
    "read_latent",
    "read_likeness",
    "read_picture",
    "read_provenance",
    "roundtrip",
]

PLACES = {
    "EightfoldError": ("core.errors", "EightfoldError"),
    "Latent": ("codec.latentfile", "Latent"),
    "Model": ("pipelines.bundle", "Model"),
    "Picture": ("codec.pixels", "Picture"),
    "Provenance": ("pipelines.provenance", "Provenance"),
    "Request": ("pipelines.request", "Request"),
    "autoencoder": ("pipelines.bundle", "load_autoencoder"),
    "load": ("pipelines.bundle", "load"),
    "read_latent": ("codec.latentfile", "read_latent"),
    "read_likeness": ("pipelines.like", "read_likeness"),
    "read_picture": ("codec.pixels", "read_picture"),
    "read_provenance": ("pipelines.metadata", "read_provenance"),
    "roundtrip": ("pipelines.transcode", "roundtrip"),
}


def __getattr__(name: str) -> Any:
    if name not in PLACES:
        raise AttributeError(f"module 'eightfold' has no attribute {name!r}")
    module, attribute = PLACES[name]
    return getattr(import_module(f".{module}", __name__), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
