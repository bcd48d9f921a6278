"""The autoencoder's losses, its starting values and the measured normalisation."""

import pytest
import torch

from eightfold.autoencoders.kl import KLAutoencoder
from eightfold.autoencoders.posterior import Posterior
from eightfold.codec.pixels import from_bytes
from eightfold.core.errors import ConfigError
from eightfold.data.pictures import PictureConfig, Pictures, draw_pictures, read_pictures
from eightfold.families.spaces import POCKET
from eightfold.training.autoencoder import draw_batch, gradient_loss, kl_divergence, measure_normalisation, to_raw, train_autoencoder
from eightfold.training.config import AutoencoderConfig, Schedule
from eightfold.training.passthrough import pass_through


def picture(size=32):
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(1, 3, 4, 4, generator=generator) * 2 - 1
    return torch.nn.functional.interpolate(small, size=(size, size), mode="bilinear")


def correlation(a, b):
    return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item()


def test_pass_through_carries_every_colour_axis():
    torch.manual_seed(0)
    plain, passing = KLAutoencoder(POCKET.autoencoder), KLAutoencoder(POCKET.autoencoder)
    pass_through(passing)
    image = picture(64)
    with torch.no_grad():
        for channel in range(3):
            assert correlation(passing(image)[:, channel], image[:, channel]) > 0.7
        assert min(correlation(plain(image)[:, channel], image[:, channel]) for channel in range(3)) < 0.5


def test_kl_is_torchs():
    mean, std = torch.randn(2, 4, 3, 3), torch.rand(2, 4, 3, 3) + 0.1
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mean, std), normal(torch.zeros_like(mean), torch.ones_like(std))).mean()
    assert kl_divergence(Posterior(mean, std)).item() == pytest.approx(expected.item(), rel=1e-5)


def test_gradient_loss_sees_edges_and_not_brightness():
    image = picture()
    assert gradient_loss(image + 0.3, image).item() == pytest.approx(0, abs=1e-6)
    ramp = torch.arange(32.0).expand(1, 3, 32, 32) / 100
    # differences along x are 0.01, 0.02, 0.04 at the three scales, those along y are 0
    assert gradient_loss(image + ramp, image).item() == pytest.approx(0.07, rel=1e-4)


def test_measured_normalisation_makes_latents_standard(tmp_path):
    config = PictureConfig(scenes=20, textures=12, size=32)
    list(draw_pictures(config, tmp_path))
    pictures = read_pictures(config, tmp_path)
    torch.manual_seed(0)
    model = KLAutoencoder(POCKET.autoencoder)
    pass_through(model)
    found = measure_normalisation(model, pictures)
    with torch.no_grad():
        raw = torch.cat([model.encode(from_bytes(one[None])).mean for one in pictures.pixels])
    latent = (raw - torch.tensor(found.shift)[:, None, None]) * torch.tensor(found.scale)[:, None, None]
    assert latent.mean(dim=(0, 2, 3)).abs().max() < 1e-4
    assert (latent.std(dim=(0, 2, 3)) - 1).abs().max() < 1e-3


def test_pictures_are_drawn_once_and_go_on_where_they_stopped(tmp_path):
    config = PictureConfig(scenes=300, textures=20, size=8, counts=(0.5, 0.3, 0.2))
    assert [progress.number for progress in draw_pictures(config, tmp_path)][-1] == 320
    first, second = sorted(tmp_path.iterdir())
    pictures = read_pictures(config, tmp_path)
    assert pictures.pixels.shape == (320, 3, 8, 8) and pictures.pixels.dtype == torch.uint8
    assert all(pictures.captions[:300]) and not any(pictures.captions[300:])
    stamp = first.stat().st_mtime_ns
    second.unlink()
    assert [progress.number for progress in draw_pictures(config, tmp_path)] == [320]
    assert first.stat().st_mtime_ns == stamp
    assert torch.equal(read_pictures(config, tmp_path).pixels, pictures.pixels)
    assert not list(draw_pictures(config, tmp_path))


def test_a_batch_depends_on_its_step_alone():
    pixels = torch.randint(0, 256, (5, 3, 64, 64), dtype=torch.uint8)
    config = AutoencoderConfig(
        space="pocket",
        pictures=PictureConfig(scenes=5, size=64),
        schedule=Schedule(steps=4, batch=4, rate=1.0),
        crops=(16, 32),
    )
    pictures = Pictures(pixels, [""] * 5)
    batches = [draw_batch(pictures, config, 4, 8, step) for step in (0, 1, 0)]
    assert torch.equal(batches[0][0], batches[2][0]) and torch.equal(batches[0][1], batches[2][1])
    assert batches[0][0].shape == (4, 3, 16, 16) and batches[1][0].shape == (1, 3, 32, 32)


def to_config(kl):
    pictures = PictureConfig(scenes=2, size=16)
    return AutoencoderConfig(space="pocket", pictures=pictures, schedule=Schedule(steps=2, batch=2, rate=1e-3), crops=(16,), kl=kl)


def test_a_plain_autoencoder_draws_no_noise():
    posterior, noise = Posterior(torch.randn(1, 4, 2, 2), torch.full((1, 4, 2, 2), 0.5)), torch.randn(1, 4, 2, 2)
    assert torch.equal(to_raw(posterior, noise, to_config(0.0)), posterior.mean)
    assert torch.equal(to_raw(posterior, noise, to_config(1e-9)), posterior.mean + 0.5 * noise)
    with pytest.raises(ConfigError, match="kl is -1"):
        to_config(-1.0)


def test_training_a_plain_autoencoder_draws_no_noise(tmp_path, monkeypatch):
    def fail(*_):
        raise AssertionError("noise was drawn into the latent")

    monkeypatch.setattr(Posterior, "sample", fail)
    assert [progress.task for progress in train_autoencoder(to_config(0.0), tmp_path / "plain")][-2:] == ["training", "training"]
    with pytest.raises(AssertionError, match="noise was drawn"):
        list(train_autoencoder(to_config(1e-3), tmp_path / "kl"))
