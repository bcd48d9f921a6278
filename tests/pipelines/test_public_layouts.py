"""Every public layout of Stable Diffusion at its full width through all of `load`: whole, bare, with leftovers, in both layouts."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
from torch import Tensor, nn

from eightfold.autoencoders.kl import KLAutoencoder
from eightfold.families.clip import CLIP_L, OPENCLIP_BIGG, OPENCLIP_H
from eightfold.pipelines.bundle import NOTHING, Model, load
from eightfold.pipelines.extras import Extras
from eightfold.text.clipcondition import ClipConditioner
from layouts import read_keymap, read_layout
from publicfiles import (
    CHANNELS,
    IDS,
    list_denoiser,
    list_leftovers,
    list_parts,
    list_tower,
    list_whole,
    to_half,
    write_folder,
    write_sparse,
)

BASES = [("sd1", "base"), ("sd2", "base"), ("sdxl", "base"), ("sdxl", "refiner")]
OTHERS = [("sd1", "inpaint"), ("sd1", "instruct"), ("sd2", "inpaint"), ("sdxl", "inpaint"), ("sdxl", "instruct")]
TOWERS = {"sd1": (CLIP_L,), "sd2": (OPENCLIP_H,), "sdxl": (CLIP_L, OPENCLIP_BIGG)}
EMBEDDINGS = {  # of the towers, in all-in-one files
    "sd1": ("cond_stage_model.transformer.text_model.embeddings.token_embedding.weight",),
    "sd2": ("cond_stage_model.model.token_embedding.weight",),
    "sdxl": (
        "conditioner.embedders.0.transformer.text_model.embeddings.token_embedding.weight",
        "conditioner.embedders.1.model.token_embedding.weight",
    ),
    "refiner": ("conditioner.embedders.0.model.token_embedding.weight",),
}
EARLY = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}  # in the autoencoders of the first folders


@pytest.fixture(autouse=True)
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """No number is read, but for those by which Stable Diffusion 2 shows what it predicts."""
    monkeypatch.setattr("eightfold.codec.load.fingerprint", lambda tensors: "unread")


def find_place(tensor: Tensor) -> int:
    """Where in its mapped file a tensor begins."""
    return tensor.data_ptr() - tensor.untyped_storage().data_ptr()


def check(model: Model, family: str, edition: str) -> None:
    """The right networks, whole, and their tensors views of the file."""
    assert (model.family.name, model.edition, model.family.prediction) == (family, edition, "noise")
    assert model.denoiser.config.channels == CHANNELS[edition]
    shapes = {name: tuple(tensor.shape) for name, tensor in model.denoiser.state_dict().items()}
    assert shapes == list_denoiser(family, edition, original=False)
    towers = cast(ClipConditioner, model.text).towers
    assert tuple(tower.config.name for tower in towers) == tuple(
        one.name for one in (TOWERS[family][1:] if edition == "refiner" else TOWERS[family])
    )
    assert model.codec.space.name == ("sdxl" if family == "sdxl" else "sd")
    networks = [model.denoiser, cast(nn.Module, model.codec.network), *towers]
    assert {tensor.device.type for network in networks for tensor in network.state_dict().values()} == {"cpu"}
    assert model.warnings == ()


def check_places(model: Model, places: dict[str, int], family: str, edition: str) -> None:
    """That every tensor is the one that the published key map says, and not an average of it."""
    name = "sdxl-refiner" if edition == "refiner" else family
    denoiser, autoencoder = read_keymap(f"{name}_denoiser")["map"], read_keymap("sd1_vae")["map"]
    for own, tensor in model.denoiser.state_dict().items():
        assert find_place(tensor) == places[f"model.diffusion_model.{denoiser[own]}"], own
    for own, tensor in cast(KLAutoencoder, model.codec.network).state_dict().items():
        assert find_place(tensor) == places[f"first_stage_model.{autoencoder[own]}"], own
    names = EMBEDDINGS["refiner" if edition == "refiner" else family]
    for tower, embedding in zip(cast(ClipConditioner, model.text).towers, names, strict=True):
        assert find_place(tower.text_model.embeddings.token_embedding.weight) == places[embedding]


def read(path: Path, *, vae: Path | None = None, extras: Extras = NOTHING) -> Model:
    """In the type of the file, so that nothing is copied."""
    return load(path, vae=vae, extras=extras, device="cpu", dtype="bfloat16")


@pytest.mark.parametrize(
    ("family", "edition", "leftovers"), [*((*one, False) for one in BASES), *((*one, True) for one in (*BASES, *OTHERS))]
)
def test_an_all_in_one_file(tmp_path: Path, family: str, edition: str, leftovers: bool) -> None:
    more = list_leftovers(family, edition) if leftovers else {}
    places = write_sparse(tmp_path / "model.safetensors", list_whole(family, edition) | more)
    model = read(tmp_path / "model.safetensors")
    check(model, family, edition)
    check_places(model, places, family, edition)


@pytest.mark.parametrize(("family", "edition", "leftovers"), [*((*one, True) for one in BASES), *((*one, False) for one in OTHERS)])
def test_a_folder(tmp_path: Path, family: str, edition: str, leftovers: bool) -> None:
    parts = list_parts(family, edition)
    if leftovers:
        parts = {name: stored | (IDS if name.startswith("text") else {}) for name, stored in parts.items()}
        parts["safety_checker/model"] = {"vision_model.vision_model.embeddings.position_ids": ("I64", (1, 257))}
        if family != "sdxl":
            vae = parts["vae/diffusion_pytorch_model"]
            for now, early in EARLY.items():
                vae = {name.replace(f".attentions.0.{now}.", f".attentions.0.{early}."): one for name, one in vae.items()}
            assert vae != parts["vae/diffusion_pytorch_model"]
            parts["vae/diffusion_pytorch_model"] = vae
    places = write_folder(tmp_path / "model", parts)
    model = read(tmp_path / "model")
    check(model, family, edition)
    assert all(find_place(tensor) == places[f"unet/{name}"] for name, tensor in model.denoiser.state_dict().items())


@pytest.mark.parametrize(
    ("family", "edition", "original"), [("sd1", "base", True), ("sd2", "base", False), ("sdxl", "base", False), ("sdxl", "refiner", True)]
)
def test_a_file_for_each_part(tmp_path: Path, family: str, edition: str, original: bool) -> None:
    """Without a prefix, as people keep them beside each other."""
    write_sparse(tmp_path / "unet.safetensors", to_half(list_denoiser(family, edition, original=original)))
    vae = to_half(read_layout("sd_vae.original" if original else "sd1_vae")) | {"loss.logvar": ("F32", ()), "model_ema.decay": ("F32", ())}
    write_sparse(tmp_path / "vae.safetensors", vae)
    towers = TOWERS[family][1:] if edition == "refiner" else TOWERS[family]
    texts = [tmp_path / f"{tower.name}.safetensors" for tower in towers]
    for path, tower in zip(texts, towers, strict=True):
        is_open = original and tower != CLIP_L
        write_sparse(path, to_half(list_tower(tower, is_open=is_open)) | {"logit_scale": ("F32", ())})
    model = read(tmp_path / "unet.safetensors", vae=tmp_path / "vae.safetensors", extras=Extras(text=tuple(reversed(texts))))
    check(model, family, edition)


@pytest.mark.parametrize(("prefix", "marks"), [("", ("v_pred",)), ("model.diffusion_model.", ("v_pred", "ztsnr"))])
def test_marks_beside_the_denoiser(tmp_path: Path, prefix: str, marks: tuple[str, ...]) -> None:
    """Fine-tunes of XL that predict velocity say so by empty tensors; none of these is a part of a network."""
    stored = to_half(list_denoiser("sdxl", "base", original=True), prefix)
    write_sparse(tmp_path / "unet.safetensors", stored | dict.fromkeys(marks, ("F32", (0,))))
    write_sparse(tmp_path / "vae.safetensors", to_half(read_layout("sdxl_vae")))
    write_sparse(tmp_path / "l.safetensors", to_half(list_tower(CLIP_L)))
    write_sparse(tmp_path / "g.safetensors", to_half(list_tower(OPENCLIP_BIGG, is_open=True)))
    extras = Extras(text=(tmp_path / "l.safetensors", tmp_path / "g.safetensors"))
    model = read(tmp_path / "unet.safetensors", vae=tmp_path / "vae.safetensors", extras=extras)
    assert model.family.prediction == "velocity"
    assert model.family.process.zero_terminal == (marks[-1] == "ztsnr")
