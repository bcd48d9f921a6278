"""Prompts through our towers and through the pipelines of diffusers, on the same random weights."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from transformers import CLIPTokenizer

from eightfold.families.clip import CLIP_L, OPENCLIP_BIGG, OPENCLIP_H
from eightfold.text.clip import ClipTower
from eightfold.text.clipcondition import ClipConditioner
from eightfold.text.tokenizer import read_merges, read_tokenizer
from toytowers import BOTH, FIRST, PLAIN, POOLED, REFINER, SECOND, SMALL, build_theirs, build_tower, build_towers, is_near

TOLERANCE = 1e-5
PROMPTS = ["", "a photo of a cat, on a mat?", "Ünïcode 🟥 12 don't", "cat " * 75]
each_prompt = pytest.mark.parametrize("prompt", PROMPTS, ids=["empty", "plain", "unicode", "full"])


@cache
def build_tokenizer(padding):
    words = read_tokenizer().words
    vocabulary = {word: number for number, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=read_merges(), model_max_length=77, pad_token=words[padding])


def build_pipeline(towers, *, layers=None, zeros=False):
    """As much of a pipeline as its `encode_prompt` asks for."""
    names = ["", "_2"] if len(towers) == 2 else ["_2"] if towers[0].config.projection else [""]
    parts = {"text_encoder": None, "tokenizer": None, "text_encoder_2": None, "tokenizer_2": None}
    for tower, name in zip(towers, names, strict=True):
        model = build_theirs(tower, layers)
        if not hasattr(model, "text_model"):
            model.__dict__["text_model"] = model  # what diffusers asks for, and newer releases of transformers do not have
        parts |= {f"text_encoder{name}": model, f"tokenizer{name}": build_tokenizer(tower.config.padding)}
    return SimpleNamespace(**parts, config=SimpleNamespace(force_zeros_for_empty_prompt=zeros), _execution_device="cpu")


def encode_theirs(pipeline, prompt, negative, skip):
    asked = {"negative_prompt": negative, "clip_skip": skip or None}
    if pipeline.text_encoder_2 is None:
        return StableDiffusionPipeline.encode_prompt(pipeline, prompt, "cpu", 1, True, **asked)
    return StableDiffusionXLPipeline.encode_prompt(pipeline, prompt, device="cpu", **asked)


@each_prompt
@pytest.mark.parametrize("skip", [0, 1, 2])
@pytest.mark.parametrize("text", [FIRST, SECOND], ids=["sd1", "sd2"])
def test_one_tower(text, skip, prompt):
    """Their negative prompt knows no skip."""
    towers = build_towers(text)
    positive, negative = encode_theirs(build_pipeline(towers, layers=text.readings[0].depth), prompt, "blurry", skip)
    ours = ClipConditioner(text=text, towers=towers, skip=skip).encode([prompt])
    assert ours.pooled is None
    assert is_near(ours.tokens, positive, TOLERANCE)
    assert is_near(ClipConditioner(text=text, towers=towers).encode(["blurry"]).tokens, negative, TOLERANCE)


@each_prompt
@pytest.mark.parametrize("skip", [0, 1])
@pytest.mark.parametrize("text", [BOTH, REFINER], ids=["sdxl", "refiner"])
def test_with_a_pooled_vector(text, skip, prompt):
    towers = build_towers(text)
    theirs = encode_theirs(build_pipeline(towers), prompt, "blurry", skip)
    ours = ClipConditioner(text=text, towers=towers, skip=skip).encode([prompt])
    assert is_near(ours.tokens, theirs[0], TOLERANCE)
    assert is_near(ours.pooled, theirs[2], TOLERANCE)
    negative = ClipConditioner(text=text, towers=towers).encode(["blurry"])
    assert is_near(negative.tokens, theirs[1], TOLERANCE)
    assert is_near(negative.pooled, theirs[3], TOLERANCE)
    assert (text.width, text.pooled) == (ours.tokens.shape[2], ours.pooled.shape[1])


def test_their_padding_takes_exclamation_marks_for_its_own():
    """Why no prompt here has one: what diffusers' folders make of it is not what these towers were trained with."""
    assert read_tokenizer().to_numbers("a mat!") == [320, 9063, 256]
    assert build_tokenizer(49407)("a mat!").input_ids[1:-1] == [320, 9063, 256]
    assert build_tokenizer(0)("a mat!").input_ids[1:-1] == [320, 9063, 0]


@pytest.mark.parametrize("zeros", [True, False])
def test_no_negative_prompt(zeros):
    towers = build_towers(BOTH)
    theirs = encode_theirs(build_pipeline(towers, zeros=zeros), "a cat", None, 0)
    text = BOTH if zeros else type(BOTH)(readings=BOTH.readings)
    for ours, tokens, pooled in zip(ClipConditioner(text=text, towers=towers).encode_pair("a cat"), theirs[:2], theirs[2:], strict=True):
        assert is_near(ours.tokens, tokens, TOLERANCE)
        assert is_near(ours.pooled, pooled, TOLERANCE)


@pytest.mark.parametrize("config", [SMALL, PLAIN, POOLED], ids=lambda config: config.name)
def test_every_depth_of_a_tower(config):
    tower = build_tower(config, seed=3)
    model = build_theirs(tower)
    numbers = torch.tensor([[49406, 320, 2368, 49407, *[config.padding] * 6], [49406, *range(50, 58), 49407]])
    theirs = model(numbers, output_hidden_states=True)
    ends = torch.tensor([3, 9]) if config.projection else None
    for depth, hidden in enumerate(theirs.hidden_states[1:], 1):
        ours = tower(tower.embed(numbers), ends, depth=depth, norm=False)
        assert is_near(ours.tokens, hidden, TOLERANCE)
        assert ours.pooled is None or is_near(ours.pooled, theirs.text_embeds, TOLERANCE)
    assert is_near(tower(tower.embed(numbers), None, depth=config.layers).tokens, theirs.last_hidden_state, TOLERANCE)


@pytest.mark.parametrize(("config", "count"), [(CLIP_L, 123_060_480), (OPENCLIP_H, 352_984_064), (OPENCLIP_BIGG, 694_659_840)])
def test_the_public_towers_have_the_published_size(config, count):
    with torch.device("meta"):
        tower = ClipTower(config)
    assert sum(weight.numel() for weight in tower.parameters()) == count
    assert not [name for name, _ in tower.named_buffers()]
