"""Autoencoders that are known by name."""

from __future__ import annotations

import eightfold as ef
from eightfold.checkpoints.identity import identify_file
from eightfold.families.published import PUBLISHED_FILES, PUBLISHED_WEIGHTS
from eightfold.families.spaces import SPACES
from eightfold.pipelines.bundle import to_path


def test_every_row_is_complete() -> None:
    spaces = {space.name for space in SPACES}
    for one in PUBLISHED_FILES:
        assert one.space in spaces and len(one.sha256) == 64 and int(one.sha256, 16) and one.bytes > 10**6
    names = [one.name for one in (*PUBLISHED_FILES, *PUBLISHED_WEIGHTS)]
    assert len({*names}) == len(names) and len({one.bytes for one in PUBLISHED_FILES}) == len(PUBLISHED_FILES)


def test_the_embedded_one_is_what_is_embedded() -> None:
    (known,) = PUBLISHED_WEIGHTS
    codec = ef.autoencoder("pocket")
    found = {one.component: one for one in identify_file(to_path("pocket"))}
    assert (known.name, known.space) == ("pocket", codec.space.name)
    assert (known.encoder, known.decoder) == (codec.encoder_fingerprint, codec.decoder_fingerprint)
    assert known.parameters == found["autoencoder"].parameters
