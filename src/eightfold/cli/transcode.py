"""eightfold encode, decode: pictures to latents and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import AmbiguousCheckpoint, RequestError
from .console import Outcome, show_loading, show_warnings, track
from .options import LATENTS, Choice, Flag, Naming, Output, Posterior, to_placement, to_text

if TYPE_CHECKING:
    from ..codec.codec import Codec
    from ..codec.pixels import Picture

LATENT = ".latent.safetensors"


def load_codec(choice: Choice, naming: Naming = Naming()) -> Codec:
    with show_loading(choice.model if choice.vae is None else str(choice.vae)):
        from ..pipelines.bundle import load_autoencoder

        return load_autoencoder(choice.vae or choice.model, space=naming.space, device=choice.device, dtype=choice.dtype)


def encode(
    *image: Path,
    posterior: Posterior = Posterior(),
    choice: Choice = Choice(),
    naming: Naming = Naming(),
    output: Output = Output(),
) -> int:
    """Pictures to latent files, NAME.latent.safetensors.

    `--out NAME.latent` writes one that ComfyUI reads.

    Parameters
    ----------
    image
        Picture files.
    """
    paths = output.to_paths([f"{path.stem}{LATENT}" for path in require(image, "eightfold encode photo.jpg")], LATENTS)
    reading, codec, outcome = posterior.to_reading(), load_codec(choice, naming), Outcome()
    from ..codec.pixels import read_picture

    for source, path in track("encode", zip(image, paths, strict=True), len(paths)):
        with outcome.attempt(str(source)):
            picture = read_picture(source)
            latent = codec.encode(picture, reading=reading, seed=posterior.seed)
            latent.save(path, overwrite=output.overwrite)
            notes = (*picture.notes, *latent.notes)
            _, channels, height, width = latent.raw.shape
            result = {"source": str(source), "path": str(path), "space": latent.space, "shape": [channels, height, width]}
            result |= {"width": latent.width, "height": latent.height, "reading": latent.reading, "notes": list(notes)}
            line = f"{path}  {channels}x{height}x{width} ({latent.space}) of {latent.width}x{latent.height}, {latent.reading}"
            result |= {**to_placement(codec), "dtype": latent.dtype, "placement": latent.reason}
            outcome.add(result, line + to_text(notes), as_json=output.json)
    return outcome.finish(as_json=output.json, reason=codec.reason)


def decode(
    *latent: Path,
    force: Flag = False,
    choice: Choice = Choice(),
    naming: Naming = Naming(),
    output: Output = Output(),
) -> int:
    """Latent files to pictures of the size that was encoded.

    Parameters
    ----------
    latent
        Latent files, as `eightfold encode` writes them, or ComfyUI's (.latent), which go with any autoencoder of as many channels.
    force
        Decode although the latent belongs to another latent space; warned of, and recorded in the picture.
    """
    files = require(latent, f"eightfold decode photo{LATENT}")
    paths = output.to_paths(
        [path.name.removesuffix(LATENT).removesuffix(".safetensors").removesuffix(".latent") + ".png" for path in files]
    )
    outcome = Outcome()
    codec, assumed = load_decoder(choice, naming, files[0])
    for source, path in track("decode", zip(latent, paths, strict=True), len(paths)):
        with outcome.attempt(str(source)):
            doubts = try_latent(codec, source) if assumed and not force else ()
            picture = codec.decode(source, force=force)
            notes = (*picture.notes, *picture.save(path, overwrite=output.overwrite))
            warnings = (*doubts, *picture.warnings)
            show_warnings(warnings, str(source))
            result = {"source": str(source), "path": str(path), "width": picture.width, "height": picture.height}
            result |= {"notes": list(notes), "warnings": list(warnings)}
            line = f"{path}  {picture.width}x{picture.height}{to_text(notes)}"
            outcome.add({**result, **to_placement(codec), **read_dtype(picture)}, line, as_json=output.json)
    return outcome.finish(as_json=output.json, reason=codec.reason)


def load_decoder(choice: Choice, naming: Naming, latent: Path) -> tuple[Codec, bool]:
    """The autoencoder, and whether its space was assumed: where its tensors fit several and nobody says which, the latent's is taken."""
    try:
        return load_codec(choice, naming), False
    except AmbiguousCheckpoint:
        from ..checkpoints.inventory import read_inventory

        said = read_inventory(latent).metadata.get("eightfold.space")
        if said is None:
            raise
        return load_codec(choice, Naming(space=said)), True


def try_latent(codec: Codec, source: Path) -> tuple[str, ...]:
    """What trying says of a latent and an autoencoder whose space was assumed."""
    from ..codec.latentfile import read_latent
    from ..pipelines.belonging import check_latent

    latent = read_latent(source, space=codec.space)
    return check_latent(codec, latent, str(source)) if latent.space == codec.space.name else ()


def require(paths: tuple[Path, ...], example: str) -> tuple[Path, ...]:
    if not paths:
        raise RequestError("no file given", hint=f"name one or more, as in `{example}`")
    return paths


def read_dtype(picture: Picture) -> dict[str, str]:
    """In what it was decoded, which may be wider than what was asked for, and why."""
    record = json.loads(picture.metadata["eightfold"])
    return {"dtype": record["dtype"], "placement": record["dtype_reason"]}
