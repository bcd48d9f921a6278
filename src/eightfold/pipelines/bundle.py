"""A model ready to use: autoencoder, denoiser and text encoder that belong together, from one file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..checkpoints.candidates import WEIGHTLESS
from ..checkpoints.fingerprint import fingerprint
from ..checkpoints.formats import AUTOENCODER, DENOISER, TEXT, read_safetensors_header, take_part
from ..checkpoints.identify import identify
from ..checkpoints.load import load_module, read_tensors
from ..codec.codec import Codec
from ..codec.engine import Engine
from ..codec.load import build_codec, load_codec
from ..core.device import Placement, choose_placement
from ..core.errors import CheckpointError, UnknownName
from ..core.memory import read_amount
from ..denoisers.unet import UNet
from ..families.catalog import FAMILIES
from ..specs.family import Family
from ..text.words import Words, WordsEncoder
from .belonging import check_vae, is_tied
from .request import Request

if TYPE_CHECKING:
    from .generate import GenerationStep

M = TypeVar("M", bound=nn.Module)

EMBEDDED = {"pocket": "pocket.safetensors"}  # name -> file in the package's `pocket` folder


@dataclass(frozen=True, kw_only=True)
class Model:
    """Everything that a picture needs. `fingerprint` names the weights, `source` the file they came from.

    `warnings` tell what was assumed where files do not say.
    """

    family: Family
    codec: Codec
    denoiser: UNet
    words: Words
    text: WordsEncoder
    placement: Placement
    fingerprint: str
    source: str
    warnings: tuple[str, ...] = ()

    @torch.no_grad()
    def encode_text(self, prompt: str) -> Float[Tensor, "1 n d"]:
        """The prompt as tokens for the denoiser; unknown words are left out."""
        return self.text(self.words.to_numbers([prompt]).to(self.placement.device))

    def generate(self, request: Request) -> Iterator[GenerationStep]:
        """Yield after every step; the last one carries all pictures. See `pipelines.generate`."""
        from .generate import generate

        return generate(self, request)


def to_path(name: str | Path) -> Path:
    """The file behind a model name or path. UnknownName for what is neither."""
    if str(name) in EMBEDDED:
        return Path(str(files("eightfold") / "pocket" / EMBEDDED[str(name)]))
    path = Path(name)
    if not os.path.lexists(path) and not path.suffix and path.name == str(name):
        raise UnknownName("model", str(name), EMBEDDED)
    return path


def load(
    name: str | Path = "pocket", *, vae: str | Path | None = None, device: str = "auto", dtype: str = "auto", memory: str | None = None
) -> Model:
    """Load a model by name or file. `vae` replaces its autoencoder by another file of the same latent space.

    `memory`: see `load_autoencoder`. Raises UnknownName, CheckpointError or, for an autoencoder of another space, SpaceMismatch.
    """
    path, placement, engine = to_path(name), choose_placement(device, dtype), build_engine(memory)
    header, metadata = read_safetensors_header(path)
    shapes = {key.removeprefix(DENOISER): info.shape for key, info in header.items() if not key.startswith((AUTOENCODER, TEXT))}
    family = identify(shapes, FAMILIES, source=str(path), declared=metadata.get("eightfold.family"))
    if family.text is None or not any(key.startswith(TEXT) for key in header):
        raise CheckpointError(
            f"{path} is a {family.name} denoiser alone; a picture also needs its text encoder and autoencoder",
            hint="the embedded model is complete: --model pocket",
        )
    config, tensors = family.text, read_tensors(path)
    own, warnings = take_part(tensors, AUTOENCODER), ()

    def build_own() -> Codec:
        return build_codec(own, metadata, space=family.space, source=str(path), placement=placement)

    if vae is None:
        codec = build_own()
    else:
        codec = load_codec(vae, placement=placement, space=family.space.name)
        warnings = check_vae(build_own(), codec) if own and is_tied(vae) else ()

    def build_part(build: Callable[[], M], prefix: str) -> M:
        return load_module(build, take_part(tensors, prefix), source=str(path), device=placement.device, dtype=placement.dtype)

    return Model(
        family=family,
        codec=replace(codec, engine=engine),
        denoiser=build_part(lambda: UNet(family.denoiser), DENOISER),
        words=Words(config),
        text=build_part(lambda: WordsEncoder(config), TEXT),
        placement=placement,
        fingerprint=fingerprint(tensors),
        source=str(path),
        warnings=warnings,
    )


def load_autoencoder(
    name: str | Path = "pocket", *, space: str | None = None, device: str = "auto", dtype: str = "auto", memory: str | None = None
) -> Codec:
    """The autoencoder of a model, by name or file, the one in an autoencoder file, or "pixels", the one without weights.

    `space` says which it is where several spaces share its tensors. `memory`, such as "4GB", bounds the memory that the process may take
    to encode and decode; without it, 80 % of what is free. Raises UnknownName, or CheckpointError: see `codec.load.load_codec`.
    """
    engine = build_engine(memory)
    path = name if str(name) in WEIGHTLESS else to_path(name)
    return replace(load_codec(path, placement=choose_placement(device, dtype), space=space), engine=engine)


def build_engine(memory: str | None) -> Engine:
    return Engine(memory=None if memory is None else read_amount(memory))
