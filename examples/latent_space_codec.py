"""The sections of `make figures` that need autoencoders alone: why pictures compress, plain against variational, the wrong decoder."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import torch
from jaxtyping import Float
from latent_space_page import KEPT, Section, mean, shrink, to_table
from torch import Tensor

from eightfold.codec.codec import Codec
from eightfold.codec.load import load_codec
from eightfold.codec.pixels import Picture, from_bytes
from eightfold.core.config import read_toml
from eightfold.core.errors import SpaceMismatch
from eightfold.core.progress import Progress
from eightfold.core.rng import build_generator, draw_noise
from eightfold.data.pictures import draw_pictures
from eightfold.data.scenes import draw_scene, render
from eightfold.evaluate.judge import Judge, features, find_objects
from eightfold.evaluate.renders import HELD_OUT, SHORT_SIDE, read_photographs, shorten
from eightfold.families.spaces import SD
from eightfold.metrics.frechet import frechet_distance
from eightfold.metrics.pixels import psnr
from eightfold.pipelines.sheet import to_sheet
from eightfold.pipelines.walk import fit
from eightfold.training.autoencoder import WEIGHTS, train_autoencoder
from eightfold.training.config import AutoencoderConfig

SHORT = ("a render back", "a draw", "a draw, scaled", "a midpoint")
SIDE, SCENES = SHORT_SIDE, 16
MEASURED = 500  # pictures on each side of a Fréchet distance; the judge's features have 96 numbers


def compare_pictures(codec: Codec) -> Section:
    """Round trips of what has structure and of what has none."""
    photographs = read_short_photographs()
    scenes = render([draw_scene(HELD_OUT, n, counts=(0.6, 0.25, 0.15)) for n in range(SCENES)], SIDE).image
    noise = torch.randint(256, (1, 3, SIDE, SIDE), generator=build_generator(0, "noise"), dtype=torch.uint8)
    kinds = {f"{name}, a photograph": image for name, image in photographs.items()}
    kinds |= {f"rendered scenes, mean of {SCENES}": scenes}
    kinds |= {f"{name}, its pixels shuffled": shuffle(image, n) for n, (name, image) in enumerate(photographs.items())}
    kinds |= {"uniform noise": from_bytes(noise)}
    decoded = {kind: torch.cat([codec.decode(codec.encode(one)).image for one in images.split(1)]) for kind, images in kinds.items()}
    rows = []
    for kind, images in kinds.items():
        flat = images.mean(dim=(2, 3), keepdim=True).expand_as(images)
        pairs = zip(images.split(1), decoded[kind].split(1), flat.split(1), strict=True)
        values = [(psnr(image, back), psnr(image, plain)) for image, back, plain in pairs]
        rows.append([kind, *(f"{mean([value[n] for value in values]):.1f}" for n in range(2))])
    shown = [kind for kind in kinds if kind.startswith(("astronaut", "chelsea, a", "coffee, a", "rendered", "uniform"))]
    sheet = [shrink(crop_square(images[:1]), 144) for half in (kinds, decoded) for images in (half[kind] for kind in shown)]
    header = ["picture, 256 px", "PSNR through latent space, dB", "PSNR of its mean colour, dB"]
    labels = [*(kind.split(", mean")[0] for kind in shown), *["through latent space"] * len(shown)]
    return Section({"roundtrip": to_table(header, rows)}, {"roundtrip": to_sheet(sheet, columns=len(shown), labels=labels)})


def read_short_photographs() -> dict[str, Float[Tensor, "1 3 h w"]]:
    """The photographs of scikit-image, their shorter side 256 pixels."""
    return {name: shorten(from_bytes(pixels)) for name, pixels in read_photographs().items()}


def shuffle(image: Float[Tensor, "1 3 h w"], seed: int) -> Float[Tensor, "1 3 h w"]:
    """The same pixels in random places."""
    order = torch.randperm(image.shape[-1] * image.shape[-2], generator=build_generator(seed, "shuffle"))
    return image.flatten(2)[:, :, order].view_as(image)


def crop_square(image: Float[Tensor, "1 3 h w"]) -> Float[Tensor, "1 3 s s"]:
    side = min(image.shape[-2:])
    return fit(Picture(image), Picture(torch.empty(1, 3, side, side))).image


def train_both() -> Iterator[Progress]:
    """The plain autoencoder and the VAE, from the files in configs/; the pictures are the same and drawn once."""
    for name in ("plain", "vae"):
        config, folder = read_twin(name)
        if (folder / WEIGHTS).exists():
            continue
        drawn = KEPT / "pictures"
        yield from draw_pictures(config.pictures, drawn)
        folder.mkdir(parents=True, exist_ok=True)
        for path in drawn.glob(f"pictures-{config.pictures.key}-*"):
            if not (folder / path.name).exists():
                shutil.copy2(path, folder)
        yield from train_autoencoder(config, folder, resume=True)


def read_twin(name: str) -> tuple[AutoencoderConfig, Path]:
    """The configuration and the folder of its run, under a name that says with which settings."""
    config = read_toml(f"configs/latent-space-{name}.toml", AutoencoderConfig)
    return config, KEPT / f"train-{name}-{sha256(repr(config).encode()).hexdigest()[:12]}"


def load_twin(name: str) -> Codec:
    return load_codec(read_twin(name)[1] / WEIGHTS)


def compare_twins(plain: Codec, vae: Codec, judge: Judge) -> Section:
    """What the KL term costs, and what it buys."""
    images = render([draw_scene(HELD_OUT, n, counts=(0.6, 0.25, 0.15)) for n in range(2 * MEASURED)]).image
    renders, others = images.split(MEASURED)
    known = features(judge, others)
    cost: dict[str, list[str]] = {"PSNR of reconstructions, dB": [], "standard deviation of the latents": []}
    distances, confidences, strip = [], [], []
    for codec in (plain, vae):
        raws = torch.cat([codec.encode(one, reading="mode").raw for one in renders.split(1)])
        decoded = {"renders themselves": renders} | {kind: codec.decode_raw(raw) for kind, raw in list_latents(codec, raws).items()}
        pairs = zip(renders.split(1), decoded["reconstructions"].split(1), strict=True)
        cost["PSNR of reconstructions, dB"].append(f"{mean([psnr(a, b) for a, b in pairs]):.1f}")
        cost["standard deviation of the latents"].append(f"{raws.std():.2f}")
        distances.append([f"{frechet_distance(features(judge, back), known):.1f}" for back in decoded.values()])
        confidences.append([f"{mean(to_confidences(judge, back)):.2f}" for back in decoded.values()])
        strip += [shrink(one, 96) for back in list(decoded.values())[1:] for one in back[1:3].split(1)]
    labels = [f"{name}: {kind}" for name in ("plain", "VAE") for kind in SHORT for _ in range(2)]
    header = ["", "Fréchet distance, plain", "VAE", "judge's confidence, plain", "VAE"]
    tables = {"cost": to_table(["", "plain", "VAE"], [[kind, *entries] for kind, entries in cost.items()])}
    tables["twins"] = to_table(header, list(zip(decoded, *distances, *confidences, strict=True)))
    return Section(tables, {"twins": to_sheet(strip, columns=8, labels=labels)})


def list_latents(codec: Codec, raws: Float[Tensor, "n c h w"]) -> dict[str, Float[Tensor, "n c h w"]]:
    """What is decoded: latents of pictures, of nothing, and half way between those of two pictures."""
    noise = draw_noise(tuple(raws.shape), build_generator(0, "draws"))
    return {
        "reconstructions": raws,
        "draws from N(0, I)": noise,
        "draws, with each channel's own mean and spread": codec.denormalise(noise),
        "midpoints of two latents": (raws + raws.roll(1, 0)) / 2,
    }


def to_confidences(judge: Judge, images: Float[Tensor, "n 3 h w"]) -> list[float]:
    """How sure the judge is of the solid it sees best in each picture: that it is there, of its colour and of its shape; 0 without any."""
    return [
        max((one.confidence * max(one.colours.values()) * max(one.shapes.values()) for one in found), default=0.0)
        for found in find_objects(judge, images)
    ]


def decode_wrongly(own: Codec, plain: Codec, vae: Codec) -> Section:
    """One latent through its own decoder, through two of the same space trained apart, and refused by one of another space."""
    scene = render([draw_scene(HELD_OUT, 0)], SIDE).image
    rows, sheet, labels = [], [scene], ["a scene"]
    latent = own.encode(scene)
    for name, codec in (("its own", own), ("another training: the VAE", vae), ("another training: the plain one", plain)):
        picture = codec.decode(latent)
        rows.append([name, f"{psnr(scene, picture.image):.1f}", "; ".join(picture.warnings)])
        sheet.append(picture.image)
        labels.append(name)
    other = replace(vae, space=SD, source="vae.safetensors")  # the same numbers, in a file that says it is of another space
    try:
        other.decode(latent)
    except SpaceMismatch as refusal:
        rows.append([f"the VAE, in a file of space {SD.name}", "", f"refused: {refusal}"])
    else:
        sys.exit("a latent of another space was not refused")
    forced = other.decode(latent, force=True)
    rows.append(["the same, with --force", f"{psnr(scene, forced.image):.1f}", "; ".join(forced.warnings)])
    sheet.append(forced.image)
    labels.append(f"the VAE as {SD.name}, by --force")
    table = to_table(["decoder", "PSNR, dB", "what Eightfold says"], rows)
    return Section({"wrong": table}, {"wrong": to_sheet([shrink(one, 160) for one in sheet], columns=5, labels=labels)})
