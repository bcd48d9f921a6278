"""Early names lead to the same network."""

import torch

from eightfold.autoencoders.kl import KLAutoencoder
from eightfold.checkpoints.rename import EARLY_ATTENTION, rename_early_attention
from eightfold.checkpoints.save import write_safetensors
from eightfold.codec.codec import load_codec
from eightfold.families.spaces import POCKET
from layouts import read_layout


def to_early(tensors):
    found = dict(tensors)
    for early, now in EARLY_ATTENTION:
        found = {name.replace(f".attentions.0.{now}.", f".attentions.0.{early}."): tensor for name, tensor in found.items()}
    return found


def test_a_file_of_early_names_is_the_same_autoencoder(tmp_path):
    torch.manual_seed(0)
    weights = KLAutoencoder(POCKET.autoencoder).state_dict()
    early = to_early(weights)
    assert len(set(weights) - set(early)) == 2 * 2 * len(EARLY_ATTENTION)  # weight and bias, encoder and decoder
    write_safetensors(tmp_path / "now.safetensors", weights, {}, overwrite=False)
    write_safetensors(tmp_path / "early.safetensors", early, {}, overwrite=False)
    now, then = load_codec(tmp_path / "now.safetensors"), load_codec(tmp_path / "early.safetensors")
    image = torch.rand(1, 3, 16, 16) * 2 - 1
    assert torch.equal(now.encode(image).raw, then.encode(image).raw)
    assert now.encoder_fingerprint == then.encoder_fingerprint


def test_todays_names_stay():
    layout = read_layout("sd1_vae")
    assert rename_early_attention(layout) == layout
    assert rename_early_attention(to_early(layout)) == layout
