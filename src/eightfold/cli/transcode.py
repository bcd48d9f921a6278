"""eightfold encode, decode, roundtrip: pictures to latents and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import RequestError
from .console import Outcome, show_loading, track, warn
from .options import LATENTS, Choice, Flag, Output, Posterior, to_placement

if TYPE_CHECKING:
    from ..codec.codec import Codec

LATENT = ".latent.safetensors"


def load_codec(choice: Choice) -> Codec:
    with show_loading(choice.model if choice.vae is None else str(choice.vae)):
        from ..pipelines.bundle import load_autoencoder

        return load_autoencoder(choice.vae or choice.model, device=choice.device, dtype=choice.dtype)


def encode(
    *image: Path,
    posterior: Posterior = Posterior(),
    choice: Choice = Choice(),
    output: Output = Output(),
) -> int:
    """Pictures to latent files, NAME.latent.safetensors.

    Parameters
    ----------
    image
        Picture files.
    """
    paths = output.to_paths([f"{path.stem}{LATENT}" for path in require(image, "eightfold encode photo.jpg")], LATENTS)
    reading, codec, outcome = posterior.to_reading(), load_codec(choice), Outcome()
    from ..codec.pixels import read_picture

    for source, path in track("encode", zip(image, paths, strict=True), len(paths)):
        with outcome.attempt(str(source)):
            picture = read_picture(source)
            latent = codec.encode(picture, reading=reading, seed=posterior.seed)
            latent.save(path, overwrite=output.overwrite)
            _, channels, height, width = latent.raw.shape
            result = {"source": str(source), "path": str(path), "space": latent.space, "shape": [channels, height, width]}
            result |= {"width": latent.width, "height": latent.height, "reading": latent.reading, "notes": list(picture.notes)}
            line = f"{path}  {channels}x{height}x{width} ({latent.space}) of {latent.width}x{latent.height}, {latent.reading}"
            outcome.add({**result, **to_placement(codec)}, line + to_text(picture.notes), as_json=output.json)
    return outcome.finish(as_json=output.json)


def decode(
    *latent: Path,
    force: Flag = False,
    choice: Choice = Choice(),
    output: Output = Output(),
) -> int:
    """Latent files to pictures of the size that was encoded.

    Parameters
    ----------
    latent
        Latent files, as `eightfold encode` writes them.
    force
        Decode although the latent belongs to another latent space; warned of, and recorded in the picture.
    """
    files = require(latent, f"eightfold decode photo{LATENT}")
    paths = output.to_paths([path.name.removesuffix(LATENT).removesuffix(".safetensors") + ".png" for path in files])
    codec, outcome = load_codec(choice), Outcome()
    for source, path in track("decode", zip(latent, paths, strict=True), len(paths)):
        with outcome.attempt(str(source)):
            picture = codec.decode(source, force=force)
            notes = picture.save(path, overwrite=output.overwrite)
            for doubt in picture.notes:
                warn(f"warning: {source}: {doubt}")
            result = {"source": str(source), "path": str(path), "width": picture.width, "height": picture.height}
            result |= {"notes": list(notes), "warnings": list(picture.notes)}
            line = f"{path}  {picture.width}x{picture.height}{to_text(notes)}"
            outcome.add({**result, **to_placement(codec)}, line, as_json=output.json)
    return outcome.finish(as_json=output.json)


def roundtrip(
    *image: Path,
    posterior: Posterior = Posterior(),
    choice: Choice = Choice(),
    output: Output = Output(),
) -> int:
    """Pictures through latent space and back: the original beside what returned, with PSNR and SSIM.

    Parameters
    ----------
    image
        Picture files.
    """
    paths = output.to_paths([f"{path.stem}.roundtrip.png" for path in require(image, "eightfold roundtrip photo.jpg")])
    reading, codec, outcome = posterior.to_reading(), load_codec(choice), Outcome()
    from ..codec.pixels import write_picture
    from ..pipelines.sheet import to_sheet
    from ..pipelines.transcode import roundtrip as run_roundtrip

    for source, path in track("round trip", zip(image, paths, strict=True), len(paths)):
        with outcome.attempt(str(source)):
            trip = run_roundtrip(codec, source, reading=reading, seed=posterior.seed)
            figures = f"PSNR {trip.psnr:.2f} dB, SSIM {trip.ssim:.4f}"
            latent = "x".join(str(side) for side in trip.latent.raw.shape[1:])
            sheet = to_sheet([trip.original.image, trip.decoded.image], columns=2, labels=[source.name, f"through {latent}: {figures}"])
            write_picture(path, sheet, metadata=trip.decoded.metadata, overwrite=output.overwrite)
            result = {"source": str(source), "path": str(path), "psnr": to_number(trip.psnr), "ssim": trip.ssim}
            result |= {"width": trip.latent.width, "height": trip.latent.height, "reading": trip.latent.reading, **to_placement(codec)}
            outcome.add(result, f"{source}  {figures}  -> {path}", as_json=output.json)
    return outcome.finish(as_json=output.json)


def require(paths: tuple[Path, ...], example: str) -> tuple[Path, ...]:
    if not paths:
        raise RequestError("no file given", hint=f"name one or more, as in `{example}`")
    return paths


def to_text(notes: tuple[str, ...]) -> str:
    return f" ({'; '.join(notes)})" if notes else ""


def to_number(value: float) -> float | None:
    """JSON knows no infinity (the PSNR of equal pictures)."""
    return value if value != float("inf") else None
