"""What a denoiser's output means, as its file says: by tensors, by metadata, by a folder's scheduler."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from eightfold.checkpoints.folder import SCHEDULER
from eightfold.checkpoints.inventory import read_inventory
from eightfold.checkpoints.readings import Meaning, find_meaning
from eightfold.checkpoints.save import write_safetensors
from eightfold.core.errors import CheckpointError, RequestError
from eightfold.families.processes import COSXL_PROCESS, PLAYGROUND_PROCESS, ZERO_TERMINAL
from eightfold.families.sd1 import SD1
from eightfold.families.sd2 import SD2
from eightfold.families.sdxl import SDXL_FAMILY
from eightfold.specs.family import Family
from eightfold.specs.space import Normalisation

SPREAD = "up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias"
MEAN, STD = torch.tensor([-1.6, 1.1, 1.4, -1.6]), torch.tensor([8.4, 5.3, 5.8, 4.3])
EDM = {"edm_mean": MEAN.view(1, 4, 1, 1), "edm_std": STD.view(1, 4, 1, 1)}
ONE = torch.zeros(1)


def read(
    path: Path, family: Family, marks: dict[str, Tensor], metadata: dict[str, str] | None = None, prediction: str | None = None
) -> Meaning:
    write_safetensors(path / "x.safetensors", {"other": ONE, **marks}, metadata or {}, overwrite=True)
    return find_meaning(family, marks, read_inventory(path / "x.safetensors"), prediction)


@pytest.mark.parametrize(
    ("marks", "key", "prediction", "grid"),
    [
        ({"v_pred": ONE}, "v_pred", "velocity", "karras"),
        ({"v_pred": ONE, "ztsnr": ONE}, "ztsnr", "velocity", "trailing"),
        ({"edm_vpred.sigma_max": torch.tensor(120.0)}, "edm_vpred.sigma_max", "velocity", "exponential"),
        (EDM, "edm_mean", "edm", "karras"),
    ],
)
def test_tensors_of_fine_tunes_of_xl(tmp_path: Path, marks: dict[str, Tensor], key: str, prediction: str, grid: str) -> None:
    found = read(tmp_path, SDXL_FAMILY, marks)
    assert (found.family.prediction, found.family.defaults.grid) == (prediction, grid)
    assert found.note == f"it predicts {prediction}: the file has {key}"
    own = {"ztsnr": ZERO_TERMINAL, "edm_vpred.sigma_max": COSXL_PROCESS, "edm_mean": PLAYGROUND_PROCESS}
    assert found.family.process == own.get(key, SDXL_FAMILY.process)


def test_a_file_that_says_nothing_is_as_its_family(tmp_path: Path) -> None:
    assert read(tmp_path, SDXL_FAMILY, {}) == Meaning(family=SDXL_FAMILY)


def test_noise_levels_are_the_files_own(tmp_path: Path) -> None:
    marks = {"edm_vpred.sigma_max": torch.tensor(100.0), "edm_vpred.sigma_min": torch.tensor([0.25])}
    assert read(tmp_path, SDXL_FAMILY, marks).family.process == replace(COSXL_PROCESS, lowest=0.25, highest=100.0)


def test_latents_are_normalised_by_the_files_own_numbers(tmp_path: Path) -> None:
    found = read(tmp_path, SDXL_FAMILY, EDM).normalisation
    assert found == Normalisation.from_moments(mean=tuple(MEAN.double().tolist()), std=tuple(STD.double().tolist()))
    assert read(tmp_path, SDXL_FAMILY, {"v_pred": ONE}).normalisation is None


@pytest.mark.parametrize(
    ("marks", "message"),
    [
        ({"edm_mean": MEAN}, "lacks edm_std"),
        ({**EDM, "edm_std": STD[:3]}, "expected 4 numbers each"),
        ({**EDM, "edm_std": torch.tensor([1.0, 2, 3, 0])}, "the second above 0"),
        ({**EDM, "edm_mean": MEAN * torch.nan}, "expected finite numbers"),
        ({**EDM, "edm_mean": torch.zeros(4, 64, 64)}, "has 16384 numbers in edm_mean"),
        ({"edm_vpred.sigma_max": torch.tensor(0.001)}, "expected 0 < lowest < highest"),
        ({"edm_vpred.sigma_max": torch.tensor(torch.inf)}, "expected finite numbers"),
        ({"edm_vpred.sigma_max": torch.zeros(2)}, "expected one number each"),
    ],
)
def test_numbers_that_cannot_be(tmp_path: Path, marks: dict[str, Tensor], message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        read(tmp_path, SDXL_FAMILY, marks)
    assert "x.safetensors" in str(caught.value) and caught.value.hint


@pytest.mark.parametrize("family", [SD1, SD2, SDXL_FAMILY], ids=lambda family: family.name)
def test_what_a_file_says_of_itself(tmp_path: Path, family: Family) -> None:
    found = read(tmp_path, family, {}, {"modelspec.prediction_type": "v"})
    assert found.family.prediction == "velocity" and found.note == "it predicts velocity: its modelspec.prediction_type is v"
    assert read(tmp_path, family, {}, {"modelspec.prediction_type": "epsilon"}).family.prediction == "noise"
    assert read(tmp_path, family, {}, {"modelspec.prediction_type": "flow"}).family == family


def test_stable_diffusion_2_is_read_off_its_weights_where_nothing_is_said(tmp_path: Path) -> None:
    wide, narrow = ({SPREAD: torch.linspace(-1, 1, 320) * size} for size in (0.3, 0.1))
    large, small = (read(tmp_path, SD2, marks) for marks in (wide, narrow))
    assert (large.family.prediction, large.family.defaults.size) == ("velocity", (768, 768))
    assert (small.family.prediction, small.family.defaults.size) == ("noise", (512, 512))
    assert "more than 0.09" in large.note and "no more than 0.09" in small.note
    said = read(tmp_path, SD2, wide, {"modelspec.prediction_type": "epsilon"})
    assert (said.family.prediction, said.family.defaults.size) == ("noise", (512, 512))


def test_what_is_asked_for_goes_first(tmp_path: Path) -> None:
    """What noise is to the model stays as the file has it."""
    found = read(tmp_path, SDXL_FAMILY, EDM, prediction="velocity")
    assert (found.family.prediction, found.family.process) == ("velocity", PLAYGROUND_PROCESS)
    assert found.normalisation is not None and found.note == "it predicts velocity: asked for"
    with pytest.raises(RequestError, match="prediction 'x0': expected noise, velocity, clean, edm"):
        read(tmp_path, SDXL_FAMILY, {}, prediction="x0")


@pytest.mark.parametrize(
    ("settings", "prediction", "is_zero"),
    [
        ({"prediction_type": "v_prediction"}, "velocity", False),
        ({"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}, "velocity", True),
        ({"prediction_type": "epsilon", "rescale_betas_zero_snr": False}, "noise", False),
    ],
)
def test_a_folder_says_it_by_its_scheduler(tmp_path: Path, settings: dict[str, object], prediction: str, is_zero: bool) -> None:
    for folder in ("unet", "scheduler"):
        (tmp_path / folder).mkdir()
    (tmp_path / "model_index.json").write_text(json.dumps({"unet": ["diffusers", "X"], "scheduler": ["diffusers", "Y"]}))
    write_safetensors(tmp_path / "unet" / "model.safetensors", {"other": ONE}, {}, overwrite=False)
    (tmp_path / SCHEDULER).write_text(json.dumps({"_class_name": "EulerDiscreteScheduler", **settings}))
    found = find_meaning(SDXL_FAMILY, {}, read_inventory(tmp_path), None).family
    assert (found.prediction, found.process == ZERO_TERMINAL) == (prediction, is_zero)
    (tmp_path / SCHEDULER).write_text("{")
    with pytest.raises(CheckpointError, match="is not JSON"):
        read_inventory(tmp_path)


def write_folder(path: Path, vae: dict[str, object]) -> Path:
    """Of Playground 2.5, as diffusers has it."""
    for folder in ("unet", "vae", "scheduler"):
        (path / folder).mkdir()
    (path / "model_index.json").write_text(json.dumps({name: ["diffusers", "X"] for name in ("unet", "vae", "scheduler")}))
    for folder in ("unet", "vae"):
        write_safetensors(path / folder / "model.safetensors", {"other": ONE}, {}, overwrite=False)
    (path / SCHEDULER).write_text(json.dumps({"_class_name": "EDMDPMSolverMultistepScheduler", "prediction_type": "epsilon"}))
    (path / "vae" / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKL", **vae}))
    return path


def test_a_folder_has_the_latents_statistics_in_its_autoencoders_configuration(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, {"latents_mean": [-1.5, 1.25, 1.5, -1.5], "latents_std": [8.0, 5, 6, 4], "scaling_factor": 0.5})
    found = find_meaning(SDXL_FAMILY, {}, read_inventory(folder), None)
    assert (found.family.prediction, found.family.process) == ("edm", PLAYGROUND_PROCESS)
    assert found.normalisation == Normalisation.from_moments(mean=(-1.5, 1.25, 1.5, -1.5), std=(8.0, 5.0, 6.0, 4.0))


def test_a_folder_that_only_names_the_scheduler_is_an_ordinary_one(tmp_path: Path) -> None:
    """As those of many fine-tunes do by mistake."""
    folder = write_folder(tmp_path, {"latents_mean": None, "latents_std": None, "scaling_factor": 0.13025})
    assert find_meaning(SDXL_FAMILY, {}, read_inventory(folder), None) == Meaning(family=SDXL_FAMILY)


@pytest.mark.parametrize("mean", [[1, 2, 3], "x", [1, 2, 3, "y"], [1, 2, 3, float("nan")], {}])
def test_a_folders_statistics_that_cannot_be(tmp_path: Path, mean: object) -> None:
    folder = write_folder(tmp_path, {"latents_mean": mean, "latents_std": [8.0, 5, 6, 4]})
    with pytest.raises(CheckpointError, match="expected") as caught:
        find_meaning(SDXL_FAMILY, {}, read_inventory(folder), None)
    assert caught.value.hint and "\n" not in str(caught.value)


def test_a_file_that_pretends_to_be_a_folder(tmp_path: Path) -> None:
    for text in ("{", "[1]", "[" * 100_000):
        assert read(tmp_path, SDXL_FAMILY, {}, {SCHEDULER: text}).family == SDXL_FAMILY
