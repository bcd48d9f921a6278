"""eightfold encode, decode, roundtrip: pictures to latents and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from .console import Outcome, track
from .options import Choice, Output, Posterior

if TYPE_CHECKING:
    from ..codec.codec import Codec

LATENT = ".latent.safetensors"


def load_codec(choice: Choice) -> Codec:
    from ..pipelines.bundle import load_model_codec

    return load_model_codec(choice.model, vae=choice.vae, device=choice.device, dtype=choice.dtype)


def encode(
    *image: Path,
    posterior: Posterior = Posterior(),
    choice: Choice = Choice(),
    output: Output = Output(),
) -> int:
    """Pictures to latent files, NAME.latent.safetensors."""
    paths = output.to_paths([f"{path.stem}{LATENT}" for path in require(image, "image")], (".safetensors",))
    codec, reading, outcome = load_codec(choice), posterior.reading, Outcome()
    for source, path in track("encode", zip(image, paths, strict=True), len(paths)):
        with outcome.attempt(str(source)):
            latent = codec.encode(source, reading=reading, seed=posterior.seed)
            latent.save(path, overwrite=output.overwrite)
            _, channels, height, width = latent.raw.shape
            result = {"source": str(source), "path": str(path), "space": latent.space, "shape": [channels, height, width]}
            result |= {"width": latent.width, "height": latent.height, "reading": latent.reading, **to_placement(codec)}
            line = f"{path}  {channels}x{height}x{width} ({latent.space}) of {latent.width}x{latent.height}, {latent.reading}"
            outcome.add(result, line, as_json=output.json)
    return outcome.finish(as_json=output.json)


def decode(
    *latent: Path,
    force: Annotated[bool, Parameter(negative="")] = False,
    choice: Choice = Choice(),
    output: Output = Output(),
) -> int:
    """Latent files to pictures of the size that was encoded.

    Parameters
    ----------
    force
        Decode although the latent belongs to another latent space; recorded in the picture.
    """
    names = [path.name.removesuffix(LATENT).removesuffix(".safetensors") + ".png" for path in require(latent, "latent")]
    paths = output.to_paths(names)
    codec, outcome = load_codec(choice), Outcome()
    for source, path in track("decode", zip(latent, paths, strict=True), len(paths)):
        with outcome.attempt(str(source)):
            picture = codec.decode(source, force=force)
            picture.save(path, overwrite=output.overwrite)
            height, width = picture.image.shape[-2:]
            result = {"source": str(source), "path": str(path), "width": width, "height": height, "notes": list(picture.notes), **to_placement(codec)}
            outcome.add(result, f"{path}  {width}x{height}", as_json=output.json)
    return outcome.finish(as_json=output.json)


def roundtrip(
    *image: Path,
    posterior: Posterior = Posterior(),
    choice: Choice = Choice(),
    output: Output = Output(),
) -> int:
    """Pictures through latent space and back: the original beside what returned, with PSNR and SSIM."""
    paths = output.to_paths([f"{path.stem}.roundtrip.png" for path in require(image, "image")])
    codec, reading, outcome = load_codec(choice), posterior.reading, Outcome()
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


def require(paths: tuple[Path, ...], kind: str) -> tuple[Path, ...]:
    if not paths:
        from ..core.errors import RequestError

        raise RequestError(f"no {kind} given", hint=f"name one or more files, as in `eightfold encode photo.jpg`")
    return paths


def to_number(value: float) -> float | None:
    """JSON knows no infinity (the PSNR of equal pictures)."""
    return value if value != float("inf") else None


def to_placement(codec: Codec) -> dict[str, Any]:
    return {"device": str(codec.device), "dtype": str(codec.dtype).removeprefix("torch.")}
