"""How a picture was made, whoever made it; and the request behind it."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import eightfold as ef
from eightfold.core.errors import ImageError
from eightfold.diffusion.grid import GRIDS
from eightfold.diffusion.samplers import SAMPLERS
from eightfold.pipelines.bundle import Model
from eightfold.pipelines.like import compare, find_dtype, read_likeness
from eightfold.pipelines.metadata import from_record, from_texts
from eightfold.pipelines.parameters import to_parameters
from eightfold.pipelines.provenance import Provenance, to_facts, to_number, to_whole
from eightfold.pipelines.request import Plan
from foreigntexts import A1111, CORE, RECORD, build_graph

TEXTS = {
    "a1111": {"parameters": A1111},
    "comfyui": {"prompt": json.dumps(build_graph())},
    "invokeai": {"invokeai_metadata": json.dumps(CORE)},
}
TEXTS["eightfold"] = {"eightfold": json.dumps(RECORD), "parameters": A1111}


def write_texts(path: Path, **texts: str) -> Path:
    chunks = PngInfo()
    for name, text in texts.items():
        chunks.add_itxt(name, text)
    Image.new("RGB", (5, 4)).save(path, pnginfo=chunks)
    return path


@pytest.mark.parametrize("source", TEXTS)
def test_every_program_is_known(tmp_path: Path, source: str) -> None:
    found = ef.read_provenance(write_texts(tmp_path / "x.png", **TEXTS[source]))
    assert isinstance(found, ef.Provenance) and found.source == source
    assert found.seed and found.steps and found.size and found.guidance and found.prompt
    assert json.loads(json.dumps(to_facts(found)))["source"] == source


def test_a_record_of_ours() -> None:
    record = {**RECORD, "eta": 0.3, "noise_source": "comfy:2/4", "dtype": "float32", "notes": []}
    assert from_record(json.dumps(record)) == Provenance(
        source="eightfold",
        prompt="a red cube",
        size=(512, 768),
        seed=42,
        steps=20,
        sampler="dpm++2m",
        grid="karras",
        guidance=7.5,
        eta=0.3,
        noise_source="comfy:2/4",
        model="sd1",
        model_hash="0123456789abcdef",
        vae_hash="fedcba9876543210",
        extra={"eightfold": "0.1.0", "dtype": "float32"},
    )


def test_a_text_that_cannot_be_read_gives_way_to_one_that_can() -> None:
    assert from_texts({"eightfold": "{", "parameters": A1111}).source == "a1111"
    with pytest.raises(ImageError, match="`eightfold` is no JSON"):
        from_texts({"eightfold": "{", "parameters": "x"})


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({}, "does not say how it was made"),
        ({"Comment": "hello"}, "does not say how it was made"),
        ({"parameters": "a cat"}, "without a line of settings"),
        ({"prompt": "{}"}, "no nodes"),
        ({"eightfold": '{"origin": {}}'}, "not by `generate`"),
        ({"eightfold": '{"walk": ["a", "b"], "prompt": "a"}'}, "not by `generate`"),
    ],
)
def test_pictures_that_do_not_say(tmp_path: Path, texts: dict[str, str], message: str) -> None:
    path = write_texts(tmp_path / "x.png", **texts)
    with pytest.raises(ImageError, match=message) as caught:
        ef.read_provenance(path)
    assert str(path) in str(caught.value) and caught.value.hint and "\n" not in str(caught.value)


def test_what_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("text")
    for path in (tmp_path / "x.png", tmp_path / "missing.png", tmp_path):
        with pytest.raises(ImageError) as caught:
            ef.read_provenance(path)
        assert str(caught.value).count(str(path)) == 1


def test_values_of_strangers() -> None:
    assert [to_whole(value) for value in (7, "7", 7.0, " 7 ", True, "7.5", 7.5, -1, 2**64, "9" * 21, None, [7], float("nan"))] == [
        7
    ] * 4 + [None] * 9
    assert [to_number(value) for value in (7, "7.5", "-1e-2", 1e7, "inf", float("inf"), 10**400, "", ".", "1_0", True, {})][:3] == [
        7.0,
        7.5,
        -0.01,
    ]
    assert {to_number(value) for value in (1e7, "inf", float("inf"), 10**400, "", ".", "1_0", True, {}, "9" * 12, "1e99")} == {None}


def test_like_one_of_ours(tmp_path: Path) -> None:
    record = {**RECORD, "sampler": "ddim", "grid": "uniform", "eta": 0.3, "guidance": 0.0, "noise_source": "comfy:2/4", "prompt": "a zebra"}
    found = read_likeness(write_texts(tmp_path / "x.png", eightfold=json.dumps(record)))
    assert found.missed == {}
    assert found.request == ef.Request(
        prompt="a zebra", size=(512, 768), steps=20, sampler="ddim", grid="uniform", guidance=0.0, eta=0.3, seed=42,
        noise_source="comfy:2/4", ignore_unknown=True,
    )  # fmt: skip


def test_every_field_of_a_plan_is_repeated(tmp_path: Path) -> None:
    """One that is added has to be read again as well: then it belongs here."""
    plan: dict[str, Any] = {"prompt": "x", "negative": "y", "steps": 7, "sampler": "ddim", "grid": "karras", "guidance": 2.5, "eta": 0.3}
    plan |= {
        "seed": 9,
        "noise_source": "comfy:2/4",
        "strength": 0.5,
        "feather": 3,
        "outpaint": (8, 0, 16, 0),
        "only_masked": True,
        "raw": True,
    }
    plan |= {"variation_seed": 4, "variation": 0.1, "enlarge": 2.0, "enlarge_strength": 0.7, "rescale": 0.2, "interval": (0.1, 0.9)}
    plan |= {"handover": 0.7, "picture_guidance": 1.7}
    elsewhere = {"width": 64, "height": 32, "count": 1, "start": "a.png", "mask": "b.png", "controls": (), "enlarge_model": None}
    assert {*plan, *elsewhere} == {field.name for field in fields(Plan)}
    path = write_texts(tmp_path / "x.png", eightfold=json.dumps({**RECORD, **plan, **elsewhere, "enlarge": 1.0}))
    found = read_likeness(path, begins=True, masks=True)
    assert found.request == ef.Request(**{**plan, "enlarge": 1.0}, size=(64, 32), ignore_unknown=True) and not found.missed
    path = write_texts(tmp_path / "y.png", eightfold=json.dumps({**RECORD, **plan, **elsewhere, "start": None, "mask": None}))
    assert read_likeness(path).request.enlarge == 2.0


def test_like_one_of_a1111(tmp_path: Path) -> None:
    found = read_likeness(write_texts(tmp_path / "x.png", parameters=A1111))
    request = found.request
    assert (request.seed, request.steps, request.size, request.guidance) == (965400086, 28, (1024, 1536), 6.5)
    assert (request.enlarge, request.enlarge_strength) == (2.0, 0.4) and "<lora" not in request.prompt
    assert (request.sampler, request.grid) == ("dpm++2m", "karras")
    assert request.noise_source == "a1111:gpu,ensd=31337" and request.negative.endswith("watermark")
    assert {"clip_skip", "lora 0", "model", "vae"} <= found.missed.keys()
    assert not {"extra Version", "extra Lora hashes", "extra Hires upscale", "strength", "seed"} & found.missed.keys()
    assert "6.5" not in " ".join(found.missed.values()) and "add_detail at 0.6" in found.missed["lora 0"]


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"Sampler": "Restart"}, "sampler"),
        ({"Schedule type": "Align Your Stars"}, "grid"),
        ({"Seed": 2**63}, "seed"),
        ({"Size": "99999x8"}, "size"),
        ({"Steps": 0}, "steps"),
        ({"Eta": 0.7}, "eta"),
        ({"CFG scale": -1}, "guidance"),
        ({"CFG scale": 1}, "negative"),
    ],
)
def test_what_cannot_be_repeated_is_said(tmp_path: Path, change: dict[str, Any], name: str) -> None:
    pairs = {"Steps": 5, "Seed": 3, "Size": "8x8", "RNG": "CPU", **change}
    text = "\n".join(["x", "Negative prompt: y", ", ".join(f"{key}: {value}" for key, value in pairs.items())])
    found = read_likeness(write_texts(tmp_path / "x.png", parameters=text))
    assert list(found.missed) == [name]
    assert getattr(found.request, name) == getattr(ef.Request(prompt=""), name)


@pytest.mark.parametrize(
    ("pairs", "sampler", "grid"),
    [
        ("Sampler: DPM++ 2M Karras", "dpm++2m", "karras"),
        ("Sampler: Euler a", "euler-ancestral", "uniform"),
        ("Sampler: DPM++ 2M SDE, Schedule type: Align Your Steps", "dpm++2m-sde", "ays"),
        ("Sampler: DPM++ 2M, Schedule type: Automatic", "dpm++2m", None),
        ("Sampler: Restart", None, None),
    ],
)
def test_names_of_samplers_and_grids(tmp_path: Path, pairs: str, sampler: str | None, grid: str | None) -> None:
    found = read_likeness(write_texts(tmp_path / "x.png", parameters=f"x\nSteps: 5, Seed: 3, {pairs}, RNG: CPU"))
    assert (found.request.sampler, found.request.grid) == (sampler, grid)
    assert ("sampler" in found.missed, "grid" in found.missed) == (sampler is None, "Automatic" in pairs)


def test_our_own_text_comes_back(tmp_path: Path) -> None:
    """Where an editor has removed our JSON."""
    for sampler in SAMPLERS:
        for grid in GRIDS:
            record = {**RECORD, "sampler": sampler, "grid": grid}
            found = read_likeness(write_texts(tmp_path / "x.png", parameters=to_parameters(record))).request
            assert (found.sampler, found.grid, found.seed, found.noise_source) == (sampler, grid, 42, "ours")


def test_without_a_seed(tmp_path: Path) -> None:
    found = read_likeness(write_texts(tmp_path / "x.png", parameters="x\nSteps: 5, Size: 8x8, RNG: CPU"))
    assert found.request.seed == 0 and "0 is taken" in found.missed["seed"]


def test_other_weights_numbers_and_versions(model: Model) -> None:
    *_, last = model.generate(ef.Request(prompt="a red cube", size=(16, 16), steps=1))
    record = json.loads(last.images[0].metadata["eightfold"])
    assert compare(from_record(json.dumps(record)), model) == []
    assert find_dtype(from_record(json.dumps(record))) == "float32"
    other = from_record(
        json.dumps(record | {"fingerprint": "f" * 64, "decoder": "d" * 64, "dtype": "float16", "torch": "1.0", "eightfold": "0"})
    )
    assert [text.split()[0] for text in compare(other, model)] == ["weights", "decoder", "dtype", "eightfold", "torch"]
    assert find_dtype(other) == "float16" and find_dtype(Provenance(source="a1111", extra={"dtype": "float16"})) is None


JSON = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)


@given(st.dictionaries(st.sampled_from([*RECORD, "dtype", "walk", "strength", "clip_skip", "x"]), JSON))
def test_any_record_is_read_or_refused(record: dict[str, Any]) -> None:
    try:
        found = from_record(json.dumps(record))
    except ImageError:
        return
    assert json.dumps(to_facts(found)) and find_dtype(found) is None
