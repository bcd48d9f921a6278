"""What `make demo` runs: pictures from text, diffusion made visible, a walk, and a photograph through latent space and back.

Everything is done with the embedded pocket model, offline; results go to the folder `demo`.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch
from PIL import Image
from skimage import data

import eightfold as ef
from eightfold.codec.pixels import write_animation, write_picture
from eightfold.pipelines.sheet import to_sheet
from eightfold.pipelines.transcode import diffuse
from eightfold.pipelines.walk import to_pairs, walk_prompts

OUT = Path("demo")
PROMPTS = (
    "a red cube",
    "a small blue ball",
    "a shiny green cone",
    "a large yellow cylinder",
    "a purple sphere",
    "a red cube and a blue sphere",
)


def main() -> None:
    begin = time.monotonic()
    OUT.mkdir(exist_ok=True)
    model = ef.load("pocket", device="cpu")
    draw_sheet(model)
    draw_film(model)
    draw_walk(model)
    measure_photograph(model)
    print(f"done in {time.monotonic() - begin:.0f} s with {torch.get_num_threads()} threads; look into {OUT}/")


def draw_sheet(model: ef.Model) -> None:
    images = []
    for prompt in PROMPTS:
        *_, last = model.generate(ef.Request(prompt=prompt, seed=1))
        images.append(last.images[0].image)
        print(f"  {prompt}", file=sys.stderr)
    save(OUT / "sheet.png", to_sheet(images, columns=3, labels=PROMPTS), "six prompts")


def draw_film(model: ef.Model) -> None:
    """A picture into noise, and noise into a picture."""
    steps = list(model.generate(ef.Request(prompt="a red cube", seed=1, steps=16)))
    picture = OUT / "cube.png"
    steps[-1].images[0].save(picture, overwrite=True)
    times = [index / 7 for index in range(8)]
    forward = [noisy.image for noisy in diffuse(model.codec, model.family.process, picture, times, seed=1)]
    reverse = [step.decode().image for step in steps[1::2]]
    labels = [f"forward, t = {t:.2f}" for t in times] + [f"reverse, t = {step.moment.t:.2f}" for step in steps[1::2]]
    save(OUT / "film.png", to_sheet([*forward, *reverse], columns=8, labels=labels), "forward diffusion above, reverse below")


def draw_walk(model: ef.Model) -> None:
    frames = list(walk_prompts(model, ef.Request(prompt="a red sphere", seed=3), ef.Request(prompt="a blue cube", seed=3), 9))
    pairs = to_pairs(frames)
    write_animation(OUT / "walk.webp", [*pairs, *pairs[-2:0:-1]], milliseconds=150, metadata={}, overwrite=True)
    print(f"{OUT}/walk.webp: from a red sphere to a blue cube, in latent space and as a cross-fade")
    rows = [frame.latent for frame in frames] + [frame.pixel for frame in frames]
    save(OUT / "walk.png", to_sheet(rows, columns=len(frames)), "the same walk as a strip, the cross-fade below")


def measure_photograph(model: ef.Model) -> None:
    photo = OUT / "astronaut.png"
    Image.fromarray(data.astronaut()).save(photo)
    trip = ef.roundtrip(model.codec, photo)
    shape = "x".join(str(side) for side in trip.latent.raw.shape[1:])
    figures = f"PSNR {trip.psnr:.2f} dB, SSIM {trip.ssim:.4f}"
    trip.latent.save(OUT / "astronaut.latent.safetensors", overwrite=True)
    labels = ["a photograph, 512x512", f"through a {shape} latent and back: {figures}"]
    sheet = to_sheet([trip.original.image, trip.decoded.image], columns=2, labels=labels)
    save(OUT / "roundtrip.png", sheet, f"a photograph of 512x512 through a {shape} latent and back: {figures}")


def save(path: Path, image: torch.Tensor, what: str) -> None:
    write_picture(path, image, metadata={}, overwrite=True)
    print(f"{path}: {what}")


if __name__ == "__main__":
    main()
