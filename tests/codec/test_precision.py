"""Numbers that are too narrow: the work is done again in wider ones, which is said; nothing is ever black."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from eightfold.autoencoders.posterior import Posterior
from eightfold.checkpoints.candidates import Candidate, to_candidate
from eightfold.codec.codec import Codec
from eightfold.codec.latentfile import read_latent
from eightfold.codec.load import build_from
from eightfold.codec.pixels import read_metadata
from eightfold.codec.precision import run_widening
from eightfold.core.device import choose_placement
from eightfold.core.errors import LatentError
from eightfold.families.spaces import SD, SDXL
from eightfold.specs.network import KLConfig
from eightfold.specs.space import Normalisation, Space
from weights import draw, randomise

TOY = Space(name="toy", autoencoder=KLConfig(channels=192, multipliers=(1, 1, 1, 1)), normalisation=Normalisation(scale=(1.0,)))


@dataclass
class Loud:
    """Folds pixels into channels, by way of numbers that only some dtypes can hold."""

    size: float
    ran: list[str] = field(default_factory=list)

    def pass_by(self, x: Tensor) -> Tensor:
        self.ran.append(str(x.dtype).removeprefix("torch."))
        return x * self.size / self.size

    def encode(self, image: Tensor) -> Posterior:
        mean = F.pixel_unshuffle(self.pass_by(image), 8)
        return Posterior(mean, torch.full_like(mean, 0.01))

    def decode(self, raw: Tensor) -> Tensor:
        return F.pixel_shuffle(self.pass_by(raw), 8)


def build_loud(size: float, dtype: torch.dtype, **changes: Any) -> tuple[Codec, Loud]:
    network = Loud(size)
    codec = Codec(network=network, space=TOY, normalisation=Normalisation(scale=(1.0,)), dtype=dtype, reason="so it was said")
    return replace(codec, rebuild=lambda _: network, **changes), network


def test_what_overflows_runs_again_and_says_so(tmp_path: Path) -> None:
    codec, network = build_loud(2.0**20, torch.float16)
    image = draw(1, 3, 13, 9).clamp(-1, 1)
    latent = codec.encode(image)
    assert network.ran == ["float16", "bfloat16"]
    (note,) = latent.notes
    assert "not finite in float16: run again in bfloat16" in note
    assert (latent.dtype, latent.reason) == ("bfloat16", f"so it was said; {note}")
    latent.save(tmp_path / "a.latent.safetensors")
    again = read_latent(tmp_path / "a.latent.safetensors")
    assert (again.dtype, again.reason, again.notes) == (latent.dtype, latent.reason, latent.notes)

    picture = codec.decode(again)
    assert network.ran[2:] == ["float16", "bfloat16"] and len(picture.notes) == 1 and "bfloat16" in picture.notes[0]
    picture.save(tmp_path / "a.png")
    record = json.loads(read_metadata(tmp_path / "a.png")["eightfold"])
    assert record["dtype"] == "bfloat16" and record["dtype_reason"] == f"so it was said; {picture.notes[0]}" and len(record["notes"]) == 2
    assert (picture.image - image).abs().max() < 0.02


def test_what_is_safe_runs_once_without_a_note() -> None:
    codec, network = build_loud(2.0, torch.float16)
    latent = codec.encode(draw(1, 3, 8, 8).clamp(-1, 1))
    picture = codec.decode(latent)
    assert network.ran == ["float16", "float16"] and latent.dtype == "float16" and latent.notes == picture.notes == ()


class Picky:
    """Finite in the dtypes it likes only."""

    def __init__(self, *likes: torch.dtype) -> None:
        self.likes = likes

    def decode(self, raw: Tensor) -> Tensor:
        return raw if raw.dtype in self.likes else raw * float("nan")

    def encode(self, image: Tensor) -> Posterior:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("asked", "likes", "taken", "count"),
    [
        (torch.float16, (torch.float16,), torch.float16, 0),
        (torch.float16, (torch.bfloat16, torch.float32), torch.bfloat16, 1),
        (torch.float16, (torch.float32,), torch.float32, 2),
        (torch.bfloat16, (torch.float32,), torch.float32, 1),
        (torch.bfloat16, (torch.float32, torch.float16), torch.float32, 1),
    ],
)
def test_the_order(asked, likes, taken, count) -> None:
    network = Picky(*likes)
    outcome = run_widening(to_work(), asked, network, lambda _: network)
    assert (outcome.dtype, len(outcome.notes), outcome.wrong) == (taken, count, 0)
    assert outcome.tensors[0].dtype == torch.float32


def to_work() -> Callable[..., tuple[Tensor, ...]]:
    return lambda network, dtype: (network.decode(torch.ones(1, 3, dtype=dtype)),)


def test_where_nothing_helps_the_count_is_told() -> None:
    outcome = run_widening(to_work(), torch.float16, Picky(), lambda _: Picky())
    assert (outcome.dtype, outcome.wrong) == (torch.float32, 3)
    outcome = run_widening(to_work(), torch.float16, Picky(), None)
    assert (outcome.dtype, outcome.wrong) == (torch.float16, 3)


def test_never_black() -> None:
    codec, _ = build_loud(float("inf"), torch.float16)
    with pytest.raises(LatentError, match="not finite"):
        codec.encode(torch.zeros(1, 3, 8, 8))
    quiet, _ = build_loud(1.0, torch.float16)
    with pytest.raises(LatentError, match=r"decoded to 192 values that are not finite, in float32"):
        codec.decode(quiet.encode(torch.zeros(1, 3, 8, 8)))


def build_narrow(space: Space) -> tuple[Candidate, dict[str, Tensor]]:
    """A space with the numbers of a public one and a small network."""
    from eightfold.autoencoders.kl import KLAutoencoder

    config = KLConfig(channels=4, width=16, multipliers=(1, 1, 1, 1), blocks=1, groups=8)
    weights = randomise(KLAutoencoder(config), seed=3).state_dict()
    return to_candidate(replace(space, autoencoder=config)), weights


@pytest.mark.parametrize(("space", "taken"), [(SD, "float16"), (SDXL, "bfloat16")])
def test_float16_is_not_taken_where_the_space_overflows(space: Space, taken: str) -> None:
    candidate, weights = build_narrow(space)
    codec = build_from(candidate, weights, {}, source="vae", placement=choose_placement("cpu", "float16"))
    latent = codec.encode(draw(1, 3, 16, 16).clamp(-1, 1))
    picture = codec.decode(latent)
    assert latent.dtype == taken == json.loads(picture.metadata["eightfold"])["dtype"]
    if taken == "float16":
        assert latent.notes == picture.notes == () and "asked for" in latent.reason
    else:
        assert latent.notes == picture.notes == ("float16 overflows in space sdxl: run in bfloat16",)
        assert "sdxl overflows in it: bfloat16" in latent.reason


@torch.no_grad()
def test_the_wider_network_has_the_weights_of_the_file() -> None:
    """Not those that float16 has rounded already: a rerun in float32 is what float32 would have given."""
    candidate, weights = build_narrow(SD)
    narrow = build_from(candidate, weights, {}, source="vae", placement=choose_placement("cpu", "float16"))
    wide = build_from(candidate, weights, {}, source="vae", placement=choose_placement("cpu", "float32"))
    assert narrow.rebuild is not None and wide.rebuild is None
    raw = draw(1, 4, 3, 3)
    assert torch.equal(narrow.rebuild(torch.float32).decode(raw), wide.network.decode(raw))
    assert narrow.rebuild(torch.float32) is narrow.rebuild(torch.float32)
    assert not torch.equal(narrow.network.decode(raw.half()).float(), wide.network.decode(raw))
