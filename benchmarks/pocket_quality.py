"""How good the pocket model is, in a minute: colours, reconstructions, and the time a picture takes.

python benchmarks/pocket_quality.py [--model FILE] [--json FILE] [--sheet FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from dataclasses import replace

import torch
from skimage import data

import eightfold as ef
from eightfold.codec.pixels import Picture, from_bytes, write_picture
from eightfold.data.scenes import COLOURS, SHAPES, draw_scene, render
from eightfold.evaluate.colour import name_colour
from eightfold.metrics.pixels import psnr
from eightfold.pipelines.sheet import to_sheet
from eightfold.pipelines.walk import fit

HELD_OUT = 7  # a seed that no training configuration uses
SCENES = 200
SHORT_SIDE = 256


def draw_colours(model: ef.Model) -> tuple[int, list[torch.Tensor], list[str]]:
    """Five prompts for each of eight colours: how many show the colour, the pictures, and what each should be and is."""
    right, images, labels = 0, [], []
    for colour in COLOURS:
        for index in range(5):
            prompt = f"{'an' if colour[0] in 'aeiou' else 'a'} {colour} {SHAPES[index % len(SHAPES)]}"
            *_, last = model.generate(ef.Request(prompt=prompt, seed=100 + index))
            found = name_colour(last.images[0].image)
            right += found == colour
            images.append(last.images[0].image)
            labels.append(prompt if found == colour else f"{prompt}: {found}")
    return right, images, labels


def measure_scenes(model: ef.Model) -> float:
    """Mean PSNR of round trips of renders that were not trained on, in dB."""
    values = []
    for index in range(SCENES):
        image = render([draw_scene(HELD_OUT, index, counts=(0.6, 0.25, 0.15))]).image
        values.append(psnr(image, model.codec.decode(model.codec.encode(image)).image))
    return statistics.mean(values)


def measure_photographs(model: ef.Model) -> dict[str, float]:
    """PSNR of photographs at a short side of 256 pixels, in dB."""
    found = {}
    for name in ("astronaut", "chelsea", "coffee"):
        image = from_bytes(torch.from_numpy(getattr(data, name)()).permute(2, 0, 1)[None].contiguous())
        height, width = image.shape[-2:]
        scale = SHORT_SIDE / min(height, width)
        target = Picture(torch.empty(1, 3, round(height * scale), round(width * scale)))
        small = fit(replace(target, image=image), target).image
        found[name] = psnr(small, model.codec.decode(model.codec.encode(small)).image)
    return found


def measure_seconds(model: ef.Model) -> float:
    """Median seconds of one picture with the defaults."""
    times = []
    for seed in range(4):
        begin = time.perf_counter()
        list(model.generate(ef.Request(prompt="a red cube", seed=seed)))
        times.append(time.perf_counter() - begin)
    return statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--json", help="also write the figures to this file")
    parser.add_argument("--sheet", help="also write the forty pictures to this file")
    options = parser.parse_args()
    model = ef.load(options.model, device="cpu")
    right, images, labels = draw_colours(model)
    photographs = measure_photographs(model)
    result = {
        "colours right of 40": right,
        f"PSNR of {SCENES} held-out scenes, dB": round(measure_scenes(model), 2),
        "PSNR of photographs, dB": {name: round(value, 2) for name, value in photographs.items()},
        "mean PSNR of photographs, dB": round(statistics.mean(photographs.values()), 2),
        "seconds a picture": round(measure_seconds(model), 2),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "fingerprint": model.fingerprint,
    }
    text = json.dumps(result, indent=2)
    print(text)
    if options.json:
        with open(options.json, "w") as file:
            file.write(text + "\n")
    if options.sheet:
        write_picture(options.sheet, to_sheet(images, columns=10, labels=labels), overwrite=True)


if __name__ == "__main__":
    main()
