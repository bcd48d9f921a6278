"""Prompts through toy towers: chunks, weights, inversions, skips and what cannot be."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch

from eightfold.core.errors import RequestError, UnknownName, WeightMismatch
from eightfold.text.clipcondition import ClipConditioner
from eightfold.text.inversion import Inversion
from eightfold.text.tokenizer import read_tokenizer
from toytowers import BOTH, FIRST, REFINER, build_towers, is_near
from weights import draw

TOWERS = {text: build_towers(text) for text in (FIRST, BOTH, REFINER)}
LONG = ", ".join(f"a red cat number {number}" for number in range(30))


def build(text=FIRST, **options):
    return ClipConditioner(text=text, towers=TOWERS[text], **options)


def build_word(name="zzz", count=2, widths=(16, 32)):
    vectors = {width: draw(count, width, seed=width) for width in widths}
    return Inversion(names=(name,), vectors=vectors, source="zzz.safetensors")


@pytest.mark.parametrize("text", [FIRST, BOTH, REFINER], ids=["sd1", "sdxl", "refiner"])
def test_a_long_prompt_is_its_chunks_side_by_side(text):
    conditioner = build(text)
    assert conditioner.count_chunks(LONG) == 3
    length = conditioner.measure(LONG)
    assert length.room == 75 and len(length.counts) == 3 and length.tokens == conditioner.count_tokens(LONG)
    assert str(length) == f"{length.tokens} tokens in 3 chunks of 75 ({', '.join(map(str, length.counts))})"
    assert str(conditioner.measure("a cat")) == "2 tokens, of 75 that there is room for"
    assert conditioner.count_tokens(LONG) == len(read_tokenizer().to_numbers(LONG))
    whole = conditioner.encode([LONG])
    assert whole.tokens.shape == (1, 3 * 77, text.width)
    words = read_tokenizer()
    parts = ["".join(words.to_word(item.number).replace("</w>", " ") for item in chunk) for chunk in conditioner.split(LONG)]
    alone = [conditioner.encode([part]) for part in parts]
    assert is_near(whole.tokens, torch.cat([part.tokens for part in alone], dim=1), 1e-5)
    if text.pooled:
        assert is_near(whole.pooled, alone[0].pooled, 1e-5)


def test_breaks_and_empty_chunks():
    conditioner = build()
    a, b, empty = (conditioner.encode([prompt]).tokens for prompt in ("a cat", "a dog", ""))
    assert is_near(conditioner.encode(["a cat BREAK a dog"]).tokens, torch.cat([a, b], dim=1), 1e-5)
    assert is_near(conditioner.encode(["a cat", "a BREAK b"]).tokens[:1], torch.cat([a, empty], dim=1), 1e-5)
    assert conditioner.count_tokens("a cat BREAK a dog") == 4


@pytest.mark.parametrize(("prompt", "negative"), [("a cat", LONG), (LONG, "a cat"), (LONG, None), ("a cat", "")])
@pytest.mark.parametrize("text", [FIRST, BOTH], ids=["sd1", "sdxl"])
def test_a_pair_has_one_shape(text, prompt, negative):
    conditioner = build(text)
    positive, other = conditioner.encode_pair(prompt, negative)
    assert positive.tokens.shape == other.tokens.shape
    both = conditioner.encode([prompt, negative or ""])
    assert torch.equal(positive.tokens, both.tokens[:1])
    if negative is None and text.zero_negative:
        assert not other.tokens.any() and not other.pooled.any()
    else:
        assert torch.equal(other.tokens, both.tokens[1:])
        assert other.pooled is None or torch.equal(other.pooled, both.pooled[1:])


def test_a_prompt_does_not_depend_on_its_company():
    conditioner = build(BOTH)
    prompts = ["a cat", "a (red:1.3) dog", ""]
    together = conditioner.encode(prompts)
    alone = [conditioner.encode([prompt]) for prompt in prompts]
    assert torch.equal(together.tokens, torch.cat([one.tokens for one in alone]))
    assert torch.equal(together.pooled, torch.cat([one.pooled for one in alone]))


def test_any_prompt_can_be_read():
    assert build().check("\ud83d ((( BREAK" + "x" * 10_000) is None


def test_padding_is_that_of_each_tower():
    rows = []
    for text in (FIRST, REFINER):
        tower = TOWERS[text][0]
        plain = tower.embed(torch.tensor([[49406, 2368, 49407, *[tower.config.padding] * 74]]))
        rows.append((plain, tower(plain, None, depth=text.readings[0].depth, norm=text.readings[0].norm).tokens))
        assert is_near(build(text).encode(["cat"]).tokens, rows[-1][1], 1e-5)
    assert [tower.config.padding for tower in TOWERS[BOTH]] == [49407, 0]


@pytest.mark.parametrize("text", [FIRST, BOTH], ids=["sd1", "sdxl"])
def test_weights_multiply_tokens(text):
    plain = build(text, weighting="plain")
    before, after = plain.encode(["a red cat"]).tokens, plain.encode(["a (red:1.5) cat"]).tokens
    wanted = before.clone()
    wanted[:, 2] *= 1.5
    assert is_near(after, wanted, 1e-5)
    assert (after - before).abs().max() > 0.1


def test_the_mean_of_a_chunk_is_restored():
    """The formula of the web UI's emphasis, written out, chunk by chunk and tower by tower."""
    conditioner = build(BOTH)
    prompt, bare = "a (red:1.5) cat BREAK [a dog]", "a red cat BREAK a dog"
    before, after = conditioner.encode([bare]).tokens, conditioner.encode([prompt]).tokens
    weights = torch.ones(2, 77, 1)
    weights[0, 2], weights[1, 1:3] = 1.5, 1 / 1.1
    for first, last in ((0, 16), (16, 48)):
        for chunk in range(2):
            z = before[0, chunk * 77 : (chunk + 1) * 77, first:last]
            wanted = z * weights[chunk]
            wanted = wanted * (z.mean() / wanted.mean())
            assert torch.allclose(after[0, chunk * 77 : (chunk + 1) * 77, first:last], wanted, rtol=1e-3, atol=1e-4)


def test_a_weight_changes_no_pooled_vector():
    conditioner = build(REFINER)
    assert torch.equal(conditioner.encode(["a (red:1.5) cat"]).pooled, conditioner.encode(["a red cat"]).pooled)


@pytest.mark.parametrize("weighting", ["mean", "plain"])
def test_a_weight_of_one_changes_nothing(weighting):
    conditioner = build(weighting=weighting)
    assert torch.equal(conditioner.encode(["a (red:1.0) cat"]).tokens, conditioner.encode(["a red cat"]).tokens)
    assert conditioner.encode(["(a:0)"]).tokens.isfinite().all()


def test_a_skip_reads_an_earlier_layer():
    tower = TOWERS[FIRST][0]
    numbers = torch.tensor([[49406, 2368, *[49407] * 75]])
    for skip in range(3):
        wanted = tower(tower.embed(numbers), None, depth=3 - skip).tokens
        assert is_near(build(skip=skip).encode(["cat"]).tokens, wanted, 1e-5)
    pooled = [build(BOTH, skip=skip).encode(["cat"]).pooled for skip in (0, 1)]
    assert torch.equal(*pooled)


@pytest.mark.parametrize(("text", "skip"), [(FIRST, 3), (FIRST, -1), (BOTH, 2)])
def test_a_skip_out_of_range(text, skip):
    with pytest.raises(RequestError, match=f"clip skip {skip}: the text is read behind layer") as caught:
        build(text, skip=skip)
    assert f"0 to {text.readings[0].depth - 1}" in caught.value.hint


@pytest.mark.parametrize("text", [FIRST, BOTH], ids=["sd1", "sdxl"])
def test_an_inversion_takes_the_place_of_tokens(text):
    """The vectors of known words under a new name change nothing."""
    numbers = read_tokenizer().to_numbers("red cat")
    vectors = {tower.config.width: tower.embed(torch.tensor([numbers]))[0] for tower in TOWERS[text]}
    conditioner = build(text, inversions=(Inversion(names=("zzz",), vectors=vectors, source="zzz.pt"),))
    for one, other in (("a zzz, zzz", "a red cat, red cat"), ("zzz BREAK (zzz:1.2)", "red cat BREAK (red cat:1.2)")):
        ours, wanted = conditioner.encode([one]), build(text).encode([other])
        assert is_near(ours.tokens, wanted.tokens, 1e-5)
        assert not text.pooled or is_near(ours.pooled, wanted.pooled, 1e-5)
    assert conditioner.count_tokens("a zzz") == 3


def test_an_inversion_moves_the_end():
    conditioner = build(REFINER, inversions=(build_word(count=5),))
    assert not is_near(conditioner.encode(["a zzz"]).pooled, conditioner.encode(["a cat"]).pooled, 0.1)
    assert conditioner.count_tokens("a zzz") == 6


def test_inversions_of_other_widths_are_refused():
    build(BOTH, inversions=(build_word(),))
    with pytest.raises(WeightMismatch, match="vectors of 16 numbers, this model reads 16 and 32"):
        build(BOTH, inversions=(build_word(widths=(16,)),))
    with pytest.raises(WeightMismatch, match="vectors of 24 numbers, this model reads 16"):
        build(FIRST, inversions=(build_word(widths=(24,)),))


def test_an_unknown_weighting():
    with pytest.raises(UnknownName, match="weighting"):
        build(weighting="strong")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    towers = [deepcopy(tower).to(dtype) for tower in build_towers(FIRST)]
    ours = ClipConditioner(text=FIRST, towers=tuple(towers), inversions=(build_word(widths=(16,)),)).encode(["a (zzz:1.2) cat"]).tokens
    assert ours.dtype == dtype
    assert ours.isfinite().all()


def test_the_same_prompt_gives_the_same_tokens():
    assert torch.equal(build().encode([LONG]).tokens, build().encode([LONG]).tokens)
