"""InvokeAI's metadata, of three times."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eightfold.core.errors import ImageError
from eightfold.pipelines.invoke import from_dream, from_invokeai, from_sd_metadata
from eightfold.pipelines.provenance import Lora
from foreigntexts import CORE

OLD: dict[str, Any] = {
    "model": "stable diffusion",
    "model_weights": "sd-1.5",
    "model_hash": "cc6cb27103",
    "app_version": "2.3.0",
    "image": {
        "prompt": [{"prompt": "a barn owl [blurry]", "weight": 1.0}],
        "steps": 50,
        "cfg_scale": 7.0,
        "width": 512,
        "height": 512,
        "seed": 42,
        "sampler": "k_euler_a",
        "threshold": 0,
        "variations": [],
        "type": "txt2img",
    },
}


def test_of_today() -> None:
    found = from_invokeai(json.dumps(CORE))
    assert (found.source, found.prompt, found.negative, found.size) == ("invokeai", "a barn owl", "blurry", (512, 640))
    assert (found.seed, found.steps, found.sampler, found.guidance, found.strength) == (3523168, 30, "dpmpp_2m_k", 7.5, 0.6)
    assert found.clip_skip == 2  # one layer left out
    assert (found.model, found.model_hash, found.vae, found.vae_hash) == ("dreamshaper", "blake3:b", "mse", "c")
    assert found.loras == (Lora(name="detail", weight=0.75),)
    assert found.extra["controlnets"] == '[{"control_model": {"name": "canny"}}]'
    assert found.extra["cfg_rescale_multiplier"] == 0 and "seed" not in found.extra


def test_of_version_3() -> None:
    table = CORE | {
        "model": {"model_name": "sdxl", "base_model": "sdxl"},
        "loras": [{"lora": {"model_name": "x"}, "weight": 1}],
        "vae": None,
    }
    found = from_invokeai(json.dumps(table))
    assert (found.model, found.vae, found.loras) == ("sdxl", None, (Lora(name="x", weight=1.0),))


def test_of_version_2() -> None:
    found = from_sd_metadata(json.dumps(OLD))
    assert (found.prompt, found.negative, found.size, found.seed, found.steps) == ("a barn owl", "blurry", (512, 512), 42, 50)
    assert (found.sampler, found.guidance, found.model, found.model_hash) == ("k_euler_a", 7.0, "sd-1.5", "cc6cb27103")
    assert found.extra["type"] == "txt2img" and "variations" not in found.extra


def test_a_prompt_that_is_text() -> None:
    assert from_sd_metadata(json.dumps({**OLD, "image": {**OLD["image"], "prompt": "a  cat"}})).prompt == "a  cat"


@pytest.mark.parametrize("quote", ['"', ""])
def test_a_command_line(quote: str) -> None:
    found = from_dream(f"{quote}a barn owl, 8k - detailed{quote} -s 50 -S 4165763912 -W 640 -H512 -C 7.5 -A k_lms -f 0.3 --seamless -G 0.8")
    assert (found.prompt, found.steps, found.seed, found.size) == ("a barn owl, 8k - detailed", 50, 4165763912, (640, 512))
    assert (found.guidance, found.sampler, found.strength) == (7.5, "k_lms", 0.3)
    assert found.extra == {"--seamless": True, "-G": "0.8"}


def test_quotes_in_a_command_line() -> None:
    assert from_dream(r'"a \"red\" -s 5 cube [dark]" -s 9').prompt == 'a "red" -s 5 cube'
    assert from_dream(r'"a \"red\" -s 5 cube [dark]" -s 9').steps == 9
    assert (from_dream("").prompt, from_dream("a cat").prompt, from_dream("a cat").steps) == ("", "a cat", None)


@pytest.mark.parametrize("read", [from_invokeai, from_sd_metadata])
@pytest.mark.parametrize("text", ["", "null", "[1]", "{", "[" * 100_000, '"x"'])
def test_what_is_no_table(read: Any, text: str) -> None:
    with pytest.raises(ImageError) as caught:
        read(text)
    assert caught.value.hint


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "model", "weight", "prompt", "hash"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*CORE, "image"]), JSON), st.dictionaries(st.sampled_from([*OLD["image"]]), JSON), st.text())
def test_any_table_is_read(core: dict[str, Any], image: dict[str, Any], text: str) -> None:
    assert from_invokeai(json.dumps(core)).source == "invokeai"
    assert from_sd_metadata(json.dumps(core | {"image": image})).source == "invokeai"
    assert from_dream(text).source == "invokeai"
