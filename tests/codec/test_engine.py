"""Codecs inside a bound on memory: the same results, a record of how, and a refusal that helps."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from eightfold.codec import engine as engines
from eightfold.codec import explain
from eightfold.codec.codec import Codec
from eightfold.codec.engine import Engine
from eightfold.codec.explain import Explanation
from eightfold.codec.latentfile import read_latent
from eightfold.core.device import choose_placement
from eightfold.core.errors import RequestError
from eightfold.core.memory import read_amount
from eightfold.nn.kernels import ready
from eightfold.nn.kernels.ready import Availability
from toyruns import TASKS, Task
from toyspaces import TOYS, build_toy_codec
from weights import draw

BASE = 200 << 20
STAGED = [name for name in TOYS if name != "pixels"]
WIDTH, HEIGHT = 99, 140


@pytest.fixture(autouse=True)
def _steady(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A process of one size, plenty free, no fast kernels, and a folder of its own to spill to."""
    monkeypatch.setattr(engines, "measure_resident", lambda: BASE)
    monkeypatch.setattr(engines, "RESERVE", 0)
    monkeypatch.setattr(engines, "measure_free", lambda: 1 << 40)
    monkeypatch.setattr(ready, "available_soon", lambda _: Availability(usable=False, reason="not in this test"))
    monkeypatch.setenv("EIGHTFOLD_CACHE", str(tmp_path / "cache"))


def draw_picture() -> torch.Tensor:
    return draw(1, 3, HEIGHT, WIDTH).clamp(-1, 1)


def bound(codec: Codec, task: Task, share: float, **how: Any) -> Codec:
    """With a share of what the fastest plan would take."""
    plan = codec.plan(task, WIDTH, HEIGHT)
    assert plan is not None
    return replace(codec, engine=Engine(memory=BASE + int(plan.fastest.rise_bytes * share), **how))


@pytest.mark.parametrize("name", STAGED)
def test_bounded_codecs_give_the_same(name: str) -> None:
    codec = build_toy_codec(TOYS[name])
    latent = codec.encode(draw_picture())
    picture = codec.decode(latent)
    assert latent.run == {"kernels": "torch, stage by stage"}
    small = bound(codec, "encode", 0.6).encode(draw_picture())
    assert torch.allclose(small.raw, latent.raw, atol=5e-5) and small.run["kernels"] == "torch" and "feature_maps" in small.run
    decoded = bound(codec, "decode", 0.6).decode(latent)
    assert torch.allclose(decoded.image, picture.image, atol=5e-5)
    assert json.loads(decoded.metadata["eightfold"])["run"]["kernels"] == "torch"


@pytest.mark.parametrize("task", TASKS)
def test_bounds_are_in_the_explanation(task: Task) -> None:
    codec = bound(build_toy_codec(TOYS["flux1"]), task, 0.5)
    found = codec.plan(task, WIDTH, HEIGHT)
    assert found is not None and found.budget == codec.engine.memory
    assert BASE < found.peak_bytes <= found.budget < found.fastest.peak_bytes and found.slowdown > 1 and not found.is_plain
    free = Engine()
    unasked = replace(codec, engine=free).plan(task, WIDTH, HEIGHT)
    assert unasked is not None and unasked.budget == BASE + int(0.8 * (1 << 40)) and unasked.plan is unasked.fastest


def test_what_is_free_is_a_bound_too(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = build_toy_codec(TOYS["sd"])
    fastest = codec.plan("decode", WIDTH, HEIGHT)
    assert fastest is not None
    monkeypatch.setattr(engines, "measure_free", lambda: int(fastest.fastest.rise_bytes * 0.7))
    found = codec.plan("decode", WIDTH, HEIGHT)
    assert found is not None and found.rise_bytes <= 0.56 * fastest.fastest.rise_bytes + 1
    monkeypatch.setattr(engines, "measure_free", lambda: None)
    unknown = codec.plan("decode", WIDTH, HEIGHT)
    assert unknown is not None and unknown.budget is None and unknown.plan is unknown.fastest


@pytest.mark.parametrize("task", TASKS)
def test_a_bound_that_is_too_small_says_which_is_not(task: Task) -> None:
    codec = build_toy_codec(TOYS["qwen"])
    bounded = replace(codec, engine=Engine(memory=BASE + 1000))
    latent = codec.encode(draw_picture())

    def work(codec: Codec) -> Any:
        return codec.encode(draw_picture()).raw if task == "encode" else codec.decode(latent).image

    with pytest.raises(RequestError, match=r"takes .* at least, and --memory allows 210 MB") as raised:
        work(bounded)
    smallest = re.search(r"--memory (\S+) is the smallest", raised.value.hint)
    assert smallest is not None
    bounded = replace(codec, engine=Engine(memory=read_amount(smallest[1])))
    assert torch.allclose(work(bounded), work(codec), atol=5e-5)


@pytest.mark.parametrize(("limit", "asked"), [(1.0, True), (1e9, False)])
def test_slow_runs_are_asked_about(limit: float, asked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "SLOW", limit)
    seen: list[Explanation] = []
    codec = bound(build_toy_codec(TOYS["sd"]), "encode", 0.4, approve=seen.append)
    codec.encode(draw_picture())
    assert bool(seen) == asked and all(found.slowdown > limit for found in seen)


def test_slow_runs_may_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "SLOW", 1.0)

    def refuse(found: Explanation) -> None:
        raise RequestError("too slow")

    codec = bound(build_toy_codec(TOYS["sd"]), "encode", 0.4, approve=refuse)
    with pytest.raises(RequestError, match="too slow"):
        codec.encode(draw_picture())
    monkeypatch.setattr(engines, "SLOW", 5.0)
    quick = replace(codec, engine=Engine(approve=refuse))
    assert quick.encode(draw_picture()).raw.isfinite().all()


def test_the_record_is_in_the_file(tmp_path: Path) -> None:
    codec = bound(build_toy_codec(TOYS["sd"]), "encode", 0.5)
    latent = codec.encode(draw_picture())
    latent.save(tmp_path / "a.latent.safetensors")
    again = read_latent(tmp_path / "a.latent.safetensors")
    assert again.run == latent.run and set(again.run) == {"kernels", "kernels_reason", "strip", "feature_maps"}


def test_a_picture_of_one_tile_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = build_toy_codec(TOYS["sd"])
    fast = replace(codec, engine=Engine(tiled=True))
    latent = codec.encode(draw_picture())
    assert torch.equal(fast.encode(draw_picture()).raw, latent.raw) and fast.encode(draw_picture()).notes == ()
    assert torch.equal(fast.decode(latent).image, codec.decode(latent).image) and fast.decode(latent).notes == ()
    monkeypatch.setattr(engines, "TILE", 12)
    monkeypatch.setattr(engines, "OVERLAP", 4)
    note = "approximate: in tiles of 12x12 cells, blended over 4"
    rough = fast.encode(draw_picture())
    assert rough.notes == (note,) and rough.run["tiles"] == "12x12 cells, blended over 4"
    assert not torch.equal(rough.raw, latent.raw) and (rough.raw - latent.raw).abs().mean() < 0.5 * latent.raw.std()
    picture = fast.decode(latent)
    assert picture.notes == (note,) and picture.image.shape == (1, 3, HEIGHT, WIDTH)
    record = json.loads(picture.metadata["eightfold"])
    assert record["run"]["tiles"] and note in record["notes"]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["sd", "flux2"])
def test_narrow_numbers_in_strips(name: str, dtype: str) -> None:
    codec = build_toy_codec(TOYS[name], choose_placement("cpu", dtype))
    latent = codec.encode(draw_picture())
    bounded = bound(codec, "decode", 0.6)
    found, plain = bounded.decode(latent), codec.decode(latent)
    assert json.loads(found.metadata["eightfold"])["run"]["kernels"] == "torch"
    assert (found.image - plain.image).abs().mean() < 0.02
    planned = bounded.plan("decode", WIDTH, HEIGHT)
    assert planned is not None and planned.reason == "the fast kernels are for float32 on a CPU"


def test_without_fast_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The result is torch's and the reason is said; where there is little work nobody asks for them."""
    codec = build_toy_codec(TOYS["sd"])
    expected = codec.encode(draw_picture()).raw
    asked: list[Path] = []

    def ask(folder: Path) -> Availability:
        asked.append(folder)
        return Availability(usable=False, reason="not on a Sunday")

    monkeypatch.setattr(ready, "available_soon", ask)
    little = codec.plan("encode", WIDTH, HEIGHT)
    assert little is not None and "too little work" in little.reason and not asked
    for module in (engines, explain):
        monkeypatch.setattr(module, "WORTH", 1.0)
    found = codec.plan("encode", WIDTH, HEIGHT)
    assert found is not None and found.reason == "not on a Sunday" and asked[0].name == "kernels" and not found.is_plain
    latent = codec.encode(draw_picture())
    assert torch.allclose(latent.raw, expected, atol=5e-5) and latent.run["kernels"] == "torch"


def test_progress_is_told() -> None:
    shares: list[float] = []
    bound(build_toy_codec(TOYS["sd"]), "encode", 0.5, watch=shares.append).encode(draw_picture())
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1)


def test_frames_are_few() -> None:
    codec = build_toy_codec(TOYS["sd"])
    for height in range(8, 8 * 20, 8):
        codec.plan("encode", 8, height)
    assert len(codec.engine.frames) == engines.FRAMES


def test_codecs_without_stages() -> None:
    assert build_toy_codec(TOYS["pixels"]).plan("encode", 10, 10) is None


@pytest.fixture
def explained() -> Callable[[float], Explanation]:
    def find(share: float) -> Explanation:
        found = bound(build_toy_codec(TOYS["flux1"]), "decode", share).plan("decode", WIDTH, HEIGHT)
        assert found is not None
        return found

    return find


def test_explanations_in_words(explained: Callable[[float], Explanation]) -> None:
    found = explained(0.4)
    facts, lines = json.loads(json.dumps(found.to_json())), found.to_lines()
    assert (facts["task"], facts["width"], facts["height"], facts["dtype"], facts["device"]) == ("decode", 104, 144, "float32", "cpu")
    assert facts["budget_bytes"] >= facts["peak_bytes"] == BASE + facts["rise_bytes"] and facts["fastest_bytes"] > facts["budget_bytes"]
    assert sum(level["passes"] for level in facts["levels"]) == len(found.plan.passes)
    assert max(level["rise_bytes"] for level in facts["levels"]) == facts["rise_bytes"]
    assert sum(level["seconds"] for level in facts["levels"]) == pytest.approx(found.seconds)
    text = "\n".join(lines)
    assert lines[0] == "decode 104x144, float32 on cpu" and "allowed" in text and "at best, in" in text
    assert f"{found.strip} rows" in text and len(lines) == (7 if found.plan.spilled else 6) + len(facts["levels"])


def test_plain_runs_are_said_to_take_more(explained: Callable[[float], Explanation]) -> None:
    found = explained(100)
    assert found.is_plain and found.rise_bytes == int(1.4 * found.plan.rise_bytes) and found.to_json()["levels"] == []
    assert len(found.to_lines()) == 4 and found.slowdown == 1


def test_a_comfortable_amount(explained: Callable[[float], Explanation], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain, "SLOW", 1.1)
    found = explained(0.35)
    enough = found.comfortable_bytes
    assert found.slowdown > 1.1 and found.peak_bytes < enough <= found.fastest.peak_bytes
    assert found.planner.plan(enough).total_seconds <= 1.1 * found.fastest.total_seconds
