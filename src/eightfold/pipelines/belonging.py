"""What is allowed where an autoencoder's tensors fit several spaces: the space that is wanted is assumed, tried once, and remembered.

Only a mismatch that trying proves is refused; everything else goes on with a warning. Autoencoders whose space is known need none of this.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..checkpoints.identity import identify_file
from ..checkpoints.known import read_table, write_table
from ..codec.codec import Codec
from ..codec.latentfile import Latent
from ..core.errors import OutputError, SpaceMismatch
from .match import Match, match_codecs, match_latent
from .references import draw_references

TRIED = "tried.json"
FEW = 8  # pictures of the package's own that the crossing is tried on


def is_tied(path: str | Path) -> bool:
    """Whether the autoencoder in the file fits several spaces, and nothing in it says which. Raises CheckpointError."""
    return any(identity.component == "autoencoder" and identity.ties for identity in identify_file(path))


def check_vae(own: Codec, vae: Codec) -> tuple[str, ...]:
    """Warnings about an autoencoder with ties in place of a model's own. Raises SpaceMismatch where trying proves that it does not fit."""
    pictures = draw_references()[:: 32 // FEW]
    found = remember(own, vae, lambda: match_codecs(own, vae, f"space {own.space.name}", pictures))
    return settle(found, f"{vae.source} with the autoencoder of {own.source}", vae.space.name)


def check_latent(codec: Codec, latent: Latent, source: str) -> tuple[str, ...]:
    """The same for a latent and the autoencoder with ties that is to decode it."""
    found = remember(latent, codec, lambda: match_latent(codec, latent, f"space {latent.space}"))
    return settle(found, f"{source} with {codec.source}", latent.space)


def settle(found: tuple[str, str], what: str, space: str) -> tuple[str, ...]:
    answer, why = found
    if answer == "mismatch":
        raise SpaceMismatch(f"{what}: not of one space ({why})", hint=f"name an autoencoder of space {space}")
    return (
        () if answer == "match" else (f"{what}: taken to be of space {space}; its tensors fit several, and trying could not tell ({why})",)
    )


def remember(first: Codec | Latent, second: Codec, attempt: Callable[[], Match]) -> tuple[str, str]:
    """The answer, and why; tried only where these weights have not met before."""
    first_key = first.encoder if isinstance(first, Latent) else first.encoder_fingerprint + first.decoder_fingerprint
    key = f"{first_key} {second.encoder_fingerprint} {second.decoder_fingerprint}"
    met = read_table(TRIED) if first_key else {}
    if key in met:
        return met[key]["answer"], met[key]["why"]
    found = attempt()
    why = found.reasons[-1]
    if first_key:
        with suppress(OutputError):  # a cache that cannot be written only costs time
            write_table(TRIED, {**met, key: {"answer": found.answer, "why": why}})
    return found.answer, why
