"""Whether two files belong together: by fingerprint, by kinship, by what their tensors say, and then by trying.

Tried is what an autoencoder is for: one encodes, the other decodes, against each with itself. A latent is decoded and encoded again: of
its own autoencoder, or of a near relation, it comes back. What is allowed then: `pipelines.belonging`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from ..checkpoints.identity import LATENT, Identity, identify_inventory
from ..checkpoints.inventory import read_inventory
from ..checkpoints.kinship import draw_sketch, is_kin
from ..checkpoints.match import compare, list_spaces
from ..codec.codec import Codec
from ..codec.latentfile import Latent, read_latent
from ..codec.load import load_codec
from ..core.errors import CheckpointError, RequestError
from ..metrics.pixels import psnr
from .references import crop_to_multiple, draw_references

Answer = Literal["match", "mismatch", "cannot tell"]
NEAR, FAR = 6.0, 12.0  # dB that a crossing may lose: up to the one it is a match, from the other on it is none
KEPT, LOST = 6.0, 0.0  # dB by which a latent that was decoded and encoded again stands out of its own change
POOR = 15.0  # dB: autoencoders that are this bad with themselves prove nothing


@dataclass(frozen=True, kw_only=True)
class Match:
    """The answer on two files, why, and the figures behind it in dB. `proven`: by fingerprint, kinship or fact, without trying."""

    answer: Answer
    proven: bool
    reasons: tuple[str, ...]
    figures: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True)
class Side:
    """One of the two files, and what is in it. Its parts are loaded when they are needed."""

    path: Path
    components: Mapping[str, Identity]

    @property
    def main(self) -> Identity:
        """What the file is taken for: a model by its denoiser, else its autoencoder, a latent, or whatever it holds."""
        for name in ("denoiser", "autoencoder", "latent"):
            if name in self.components:
                return self.components[name]
        raise CheckpointError(f"{self.path} is no model, autoencoder or latent that is known", hint=f"`eightfold identify {self.path}`")

    @cached_property
    def codec(self) -> Codec | None:
        """The autoencoder inside, in float32 on the CPU; of spaces that share it the first, for raw latents do not depend on that."""
        found = self.components.get("autoencoder")
        return load_codec(self.path, space=list_spaces(found)[0]) if found is not None and list_spaces(found) else None

    @cached_property
    def latent(self) -> Latent | None:
        return read_latent(self.path) if "latent" in self.components else None


def read_side(path: str | Path) -> Side:
    """What is in the file. Raises CheckpointError where it cannot be read."""
    inventory = read_inventory(path)
    if LATENT not in inventory.metadata and "latent_tensor" in inventory.tensors:
        hint = "any autoencoder of its channels decodes it"
        raise RequestError(f"{path} is a latent of ComfyUI, which does not say whose it is", hint=hint)
    return Side(Path(path), {identity.component: identity for identity in identify_inventory(inventory)})


def match(first: str | Path, second: str | Path, *, images: Sequence[Float[Tensor, "1 3 h w"]] | None = None) -> Match:
    """Whether what is in the two files belongs together; `images` in place of the package's own pictures. Raises CheckpointError."""
    sides = read_side(first), read_side(second)
    verdict, said = compare(*(side.main for side in sides))
    if verdict == "refused":
        return Match(answer="mismatch", proven=True, reasons=(said,))
    first_codec, second_codec = (side.codec for side in sides)
    first_latent, second_latent = (side.latent for side in sides)
    if first_codec is not None and second_codec is not None:
        return match_codecs(first_codec, second_codec, said, images or draw_references())
    if first_latent is not None and second_latent is not None:
        return match_latents(first_latent, second_latent, said)
    codec, latent = first_codec or second_codec, first_latent or second_latent
    if codec is not None and latent is not None:
        return match_latent(codec, latent, said)
    return Match(answer="match" if verdict == "allowed" else "cannot tell", proven=verdict == "allowed", reasons=(said,))


def match_codecs(first: Codec, second: Codec, said: str, images: Sequence[Float[Tensor, "1 3 h w"]]) -> Match:
    halves = [first.encoder_fingerprint == second.encoder_fingerprint, first.decoder_fingerprint == second.decoder_fingerprint]
    if all(halves):
        return Match(answer="match", proven=True, reasons=(said, "the same weights, by fingerprint"))
    if is_kin(sketch_codec(first), sketch_codec(second)):
        return Match(answer="match", proven=True, reasons=(said, "the same weights in another dtype, by kinship"))
    reasons = [said, *(f"the same {name}, by fingerprint" for name, same in zip(("encoder", "decoder"), halves, strict=True) if same)]
    figures = cross(first, second, images)
    answer, why = judge_crossing(figures)
    return Match(answer=answer, proven=False, reasons=(*reasons, why), figures=figures)


def sketch_codec(codec: Codec) -> dict[str, tuple[float, float]]:
    """Of the weights that the network runs with; empty where it has none."""
    return draw_sketch(codec.network.state_dict()) if isinstance(codec.network, nn.Module) else {}


def cross(first: Codec, second: Codec, images: Sequence[Float[Tensor, "1 3 h w"]]) -> dict[str, float]:
    """Mean PSNR in dB over the pictures, for each encoder with each decoder."""
    side = math.lcm(first.space.latent_downscale, second.space.latent_downscale)
    pictures = [crop_to_multiple(image, side) for image in images]
    codecs = {"first": first, "second": second}
    raws = {name: [codec.encode(picture, reading="mode").raw for picture in pictures] for name, codec in codecs.items()}
    figures: dict[str, float] = {}
    for encoder in codecs:
        for decoder, codec in codecs.items():
            pairs = zip(pictures, raws[encoder], strict=True)
            figures[f"{encoder} to {decoder}"] = statistics.fmean(psnr(picture, codec.decode_raw(raw)) for picture, raw in pairs)
    return figures


def judge_crossing(figures: Mapping[str, float]) -> tuple[Answer, str]:
    """A crossing that loses little against the better of the two is a match."""
    alone = max(figures["first to first"], figures["second to second"])
    lost = alone - min(figures["first to second"], figures["second to first"])
    why = f"one encodes, the other decodes: {lost:.1f} dB lost of {alone:.1f} dB"
    if alone < POOR:
        return "cannot tell", f"{why}; neither keeps a picture by itself"
    return ("match" if lost <= NEAR else "mismatch" if lost >= FAR else "cannot tell"), why


def match_latent(codec: Codec, latent: Latent, said: str) -> Match:
    if latent.encoder and latent.encoder == codec.encoder_fingerprint:
        return Match(answer="match", proven=True, reasons=(said, "encoded by these weights, by fingerprint"))
    channels = latent.raw.shape[1]
    if channels != codec.space.channels:
        return Match(answer="mismatch", proven=True, reasons=(said, f"{channels} channels and {codec.space.channels}"))
    again = codec.encode(codec.decode_raw(latent.raw), reading="mode").raw
    error, spread = (again - latent.raw).square().mean().item(), latent.raw.var().item()
    kept = 10 * math.log10(max(spread, 1e-12) / max(error, 1e-12))
    answer: Answer = "match" if kept >= KEPT else "mismatch" if kept <= LOST else "cannot tell"
    why = f"decoded and encoded again, the latent stands {kept:.1f} dB out of what changed"
    return Match(answer=answer, proven=False, reasons=(said, why), figures={"again": kept})


def match_latents(first: Latent, second: Latent, said: str) -> Match:
    if first.encoder and first.encoder == second.encoder:
        return Match(answer="match", proven=True, reasons=(said, "encoded by the same weights, by fingerprint"))
    if first.raw.shape[1] != second.raw.shape[1]:
        return Match(answer="mismatch", proven=True, reasons=(said, f"{first.raw.shape[1]} channels and {second.raw.shape[1]}"))
    reason = "encoded by other weights" if first.encoder and second.encoder else "one does not say which weights encoded it"
    return Match(answer="cannot tell", proven=False, reasons=(said, reason))
