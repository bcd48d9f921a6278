"""A model ready to use: autoencoder, denoiser and text encoder that belong together, from one file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from torch import Tensor

from ..checkpoints.candidates import WEIGHTLESS
from ..checkpoints.components import WHOLE
from ..checkpoints.convert import to_diffusers
from ..checkpoints.entries import Inventory
from ..checkpoints.fingerprint import fingerprint
from ..checkpoints.formats import TEXT
from ..checkpoints.identity import Claimed, claim_components
from ..checkpoints.inventory import read_inventory
from ..checkpoints.inversions import read_inversion
from ..checkpoints.kinds import Kind
from ..checkpoints.load import load_module, read_tensors
from ..checkpoints.readings import find_meaning, leave_marks
from ..checkpoints.texttowers import find_towers, read_towers
from ..codec.codec import Codec
from ..codec.engine import Engine
from ..codec.load import load_codec
from ..core.device import Placement, choose_placement
from ..core.errors import AmbiguousCheckpoint, CheckpointError, RequestError, UnknownCheckpoint, UnknownName
from ..core.memory import read_amount
from ..denoisers.unet import UNet
from ..families.catalog import FAMILIES
from ..specs.family import Family
from ..specs.text import ClipText
from ..text.clip import ClipTower
from ..text.clipcondition import ClipConditioner
from ..text.condition import Conditioner
from ..text.words import WordsConditioner, WordsEncoder
from .belonging import check_vae, is_tied
from .extras import Extras, attach_adapters
from .hub import find_model, is_hub_name
from .request import Request

if TYPE_CHECKING:
    from .generate import GenerationStep

NOTHING = Extras()
EMBEDDED = {"pocket": "pocket.safetensors"}  # name -> file in the package's `pocket` folder


@dataclass(frozen=True, kw_only=True)
class Model:
    """Everything that a picture needs. `family` is the family as the file has it: its edition, and what its output means.

    `source` is the file that it came from, `edition` the name of the edition, `notes` tell how what a file leaves open was decided,
    `warnings` what was assumed. `refiner` finishes what it begins; its autoencoder is this one's.
    """

    family: Family
    edition: str
    codec: Codec
    denoiser: UNet
    text: Conditioner
    placement: Placement
    source: str
    extras: Extras = NOTHING
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    refiner: Model | None = None

    @cached_property
    def fingerprint(self) -> str:
        """Of all weights in the file."""
        return fingerprint(read_tensors(self.source))

    def to_skip(self, skip: int) -> Model:
        """The same model with its text read so many layers earlier. Raises RequestError."""
        if not isinstance(self.text, ClipConditioner):
            raise RequestError(f"{self.family.name} reads words of its own list, and skips no layer", hint="leave the skip out")
        return replace(self, text=replace(self.text, skip=skip), extras=replace(self.extras, skip=skip))

    def generate(self, request: Request) -> Iterator[GenerationStep]:
        """Yield after every step; the last one carries all pictures. See `pipelines.generate`."""
        from .generate import generate

        return generate(self, request)


def to_path(name: str | Path, *, offline: bool = False) -> Path:
    """The file or folder behind a model name, a path or a hub's name. UnknownName for what is none of them."""
    if str(name) in EMBEDDED:
        return Path(str(files("eightfold") / "pocket" / EMBEDDED[str(name)]))
    path = Path(name)
    if isinstance(name, str) and not os.path.lexists(path) and is_hub_name(name) and not path.parent.is_dir():
        return find_model(name, offline=offline)
    if not os.path.lexists(path) and not path.suffix and path.name == str(name):
        raise UnknownName("model", str(name), EMBEDDED)
    return path


def load(
    name: str | Path = "pocket",
    *,
    vae: str | Path | None = None,
    extras: Extras = NOTHING,
    device: str = "auto",
    dtype: str = "auto",
    memory: str | None = None,
    offline: bool = False,
) -> Model:
    """Load a model by name, file, folder or hub name (which is fetched unless `offline`).

    `vae` replaces its autoencoder by another file of the same latent space.
    `extras` are files beside it; `memory`: see `load_autoencoder`. Raises UnknownName, CheckpointError or, for an autoencoder of another
    space, SpaceMismatch.
    """
    path, placement, engine = to_path(name, offline=offline), choose_placement(device, dtype), build_engine(memory)
    inventory = read_inventory(path)
    parts = claim_components(inventory)
    family, kind, tensors = read_denoiser(inventory, parts, path)
    meaning = find_meaning(family, tensors, inventory, extras.prediction)
    family = meaning.family
    text = load_text(family, inventory, extras, placement)
    codec, warnings = load_vae(family, parts, path, vae, placement)
    codec = codec if meaning.normalisation is None else replace(codec, normalisation=meaning.normalisation)
    denoiser = build_denoiser(family, tensors, path, placement)
    warnings += attach_adapters(extras.adapters, family, denoiser, text.towers if isinstance(text, ClipConditioner) else ())
    model = Model(
        family=family,
        edition=kind.variant,
        codec=replace(codec, engine=engine),
        denoiser=denoiser,
        text=text,
        placement=placement,
        source=str(path),
        extras=extras,
        notes=(meaning.note,) if meaning.note else (),
        warnings=warnings,
    )
    return model if extras.refiner is None else replace(model, refiner=load_refiner(to_path(extras.refiner, offline=offline), model))


def build_denoiser(family: Family, tensors: Mapping[str, Tensor], path: Path, placement: Placement) -> UNet:
    own, place = leave_marks(family, tensors), placement
    return load_module(lambda: UNet(family.denoiser), own, source=str(path), device=place.device, dtype=place.dtype)


def load_refiner(path: Path, base: Model) -> Model:
    """The model that finishes what `base` begins, with the same autoencoder; with the same text tower, where its file has none.

    Raises CheckpointError for one that is no refiner, or not one for this model.
    """
    inventory, placement = read_inventory(path), base.placement
    family, kind, tensors = read_denoiser(inventory, claim_components(inventory), path)
    meaning = find_meaning(family, tensors, inventory, None)
    family = meaning.family
    refuse_refiner(family, kind, path, base)
    assert isinstance(family.text, ClipText)
    own = base.text if isinstance(base.text, ClipConditioner) else None
    towers = () if own is None or find_towers(inventory) else share_towers(own, family.text)
    towers = towers or read_towers([inventory], family.text, device=placement.device, dtype=placement.dtype)
    denoiser = build_denoiser(family, tensors, path, placement)
    return Model(
        family=family,
        edition=kind.variant,
        codec=base.codec,
        denoiser=denoiser,
        text=ClipConditioner(text=family.text, towers=towers, inversions=own.inversions if own else ()),
        placement=placement,
        source=str(path),
        notes=(meaning.note,) if meaning.note else (),
    )


def refuse_refiner(family: Family, kind: Kind, path: Path, base: Model) -> None:
    """Raise CheckpointError for what cannot finish a picture that `base` has begun."""
    own, hint = base.family, f"name a refiner that was made for {base.family.name}, or leave it out"
    if family.name != own.name:
        raise CheckpointError(f"{path} is a {family.name} model ({kind.variant}), and {base.source} a {own.name} model", hint=hint)
    if family.handover is None:
        raise CheckpointError(f"{path} is no refiner: it is a {family.name} model ({kind.variant}) that draws by itself", hint=hint)
    if own.handover is not None:
        raise CheckpointError(f"{base.source} is a refiner itself: it has none", hint="--model names the base, --refiner the refiner")
    if family.process != own.process:
        what = f"{base.source} was trained on other noise levels than {path}, which cannot go on from its times"
        raise CheckpointError(what, hint="leave the refiner out; --start PICTURE --model REFINER refines a finished picture")


def share_towers(text: ClipConditioner, wanted: ClipText) -> tuple[ClipTower, ...]:
    """The towers that a model has already, as another reads them; none unless it has all of them."""
    own = {tower.config.width: tower for tower in text.towers}
    found = tuple(own[reading.tower.width] for reading in wanted.readings if reading.tower.width in own)
    return found if len(found) == len(wanted.readings) else ()


def read_denoiser(inventory: Inventory, parts: Mapping[str, Claimed], path: Path) -> tuple[Family, Kind, dict[str, Tensor]]:
    """Whose denoiser a file holds, in which edition, and its tensors in our layout. Raises CheckpointError."""
    part, kind = take_denoiser(parts, path)
    tensors = read_tensors(part)
    return find_family(kind, path).to_edition(kind.variant), kind, tensors if kind.keymap is None else to_diffusers(tensors, kind.keymap)


def take_denoiser(parts: Mapping[str, Claimed], path: Path) -> tuple[Inventory, Kind]:
    """The one denoiser of a file. Raises UnknownCheckpoint where there is none, AmbiguousCheckpoint where it may be several."""
    claimed = parts.get("denoiser", parts.get(WHOLE))
    kinds = [] if claimed is None else [claim.kind for claim in claimed.claims if claim.kind.component == "denoiser"]
    if claimed is None or not kinds:
        held = ", ".join(name for name in parts if name) or "nothing that is known"
        raise UnknownCheckpoint(f"{path} has the denoiser of no known model; it has: {held}", hint=f"`eightfold identify {path}`")
    if len(kinds) > 1:
        names = ", ".join(f"{kind.family} ({kind.variant})" for kind in kinds)
        raise AmbiguousCheckpoint(f"{path} is claimed by {names}", hint=f"`eightfold identify {path}`")
    return claimed.part, kinds[0]


def find_family(kind: Kind, path: Path) -> Family:
    """Raises CheckpointError for a family that is known and cannot draw here."""
    for family in FAMILIES:
        if family.name == kind.family:
            return family
    can = ", ".join(family.name for family in FAMILIES)
    raise CheckpointError(f"{path} is a {kind.family} model ({kind.variant}), which cannot draw here", hint=f"families that can: {can}")


def load_vae(
    family: Family, parts: Mapping[str, Claimed], path: Path, vae: str | Path | None, placement: Placement
) -> tuple[Codec, tuple[str, ...]]:
    """The autoencoder in the model's file, or the other one that was asked for, and warnings about it."""
    has_own = "autoencoder" in parts
    if vae is None and not has_own:
        refuse_incomplete(family, path, "autoencoder", "--vae FILE")
    if vae is None:
        return load_codec(path, placement=placement, space=family.space.name), ()
    codec = load_codec(vae, placement=placement, space=family.space.name)
    if not (has_own and is_tied(vae)):
        return codec, ()
    return codec, check_vae(load_codec(path, placement=placement, space=family.space.name), codec)


def load_text(family: Family, inventory: Inventory, extras: Extras, placement: Placement) -> Conditioner:
    """The text encoder in the model's file, or those in the files that were given. Raises CheckpointError."""
    config, device, dtype = family.text, placement.device, placement.dtype
    if isinstance(config, ClipText):
        towers = read_towers([*map(read_inventory, extras.text), inventory], config, device=device, dtype=dtype)
        inversions = tuple(read_inversion(path) for path in extras.embeddings)
        return ClipConditioner(text=config, towers=towers, inversions=inversions, skip=extras.skip)
    if extras != replace(NOTHING, prediction=extras.prediction, adapters=extras.adapters, refiner=extras.refiner):
        raise RequestError(
            f"{family.name} reads words of its own list: it takes no text towers, inversions or skips", hint="leave them out"
        )
    tensors = read_tensors(inventory, TEXT)
    if not tensors:
        refuse_incomplete(family, Path(inventory.source), "text encoder", "the embedded model is complete: --model pocket")
    encoder = load_module(lambda: WordsEncoder(config), tensors, source=inventory.source, device=device, dtype=dtype)
    return WordsConditioner(config, encoder)


def refuse_incomplete(family: Family, path: Path, what: str, hint: str) -> NoReturn:
    raise CheckpointError(f"{path} is a {family.name} denoiser alone: it has no {what}", hint=hint)


def load_autoencoder(
    name: str | Path = "pocket",
    *,
    space: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    memory: str | None = None,
    offline: bool = False,
) -> Codec:
    """The autoencoder of a model, by name or file, the one in an autoencoder file, or "pixels", the one without weights.

    `space` says which it is where several spaces share its tensors. `memory`, such as "4GB", bounds the memory that the process may take
    to encode and decode; without it, 80 % of what is free. Raises UnknownName, or CheckpointError: see `codec.load.load_codec`.
    """
    engine = build_engine(memory)
    path = name if str(name) in WEIGHTLESS else to_path(name, offline=offline)
    return replace(load_codec(path, placement=choose_placement(device, dtype), space=space), engine=engine)


def build_engine(memory: str | None) -> Engine:
    return Engine(memory=None if memory is None else read_amount(memory))
