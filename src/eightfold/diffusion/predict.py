"""What a denoiser's output means, and the way from it to the clean latent and back.

Everywhere noisy = alpha * clean + sigma * noise. `alpha` and `sigma` are floats, or tensors that broadcast against the latents
(training has one level a sample: shape `b 1 1 1`).
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from ..core.errors import RequestError
from ..specs.family import Prediction

Level = float | Float[Tensor, "..."]


def add_noise(clean: Float[Tensor, "*s"], noise: Float[Tensor, "*s"], alpha: Level, sigma: Level) -> Float[Tensor, "*s"]:
    return alpha * clean + sigma * noise


def to_noise(clean: Float[Tensor, "*s"], noisy: Float[Tensor, "*s"], alpha: Level, sigma: Level) -> Float[Tensor, "*s"]:
    """The noise that turns `clean` into `noisy`; sigma must not be 0."""
    return (noisy - alpha * clean) / sigma


def to_clean(
    output: Float[Tensor, "*s"], noisy: Float[Tensor, "*s"], alpha: Level, sigma: Level, prediction: Prediction
) -> Float[Tensor, "*s"]:
    """The clean latent that the denoiser's `output` at `noisy` stands for.

    "velocity" and "edm" hold for processes that preserve variance, alpha**2 + sigma**2 = 1; the second is the output F of EDM
    (arXiv 2206.00364, equation 7): the velocity with the other sign. "noise" needs an alpha above 0 (RequestError).
    """
    match prediction:
        case "noise":
            if isinstance(alpha, float) and alpha == 0.0:
                what = "at this time there is noise alone (alpha 0), and predicted noise says nothing of the picture"
                raise RequestError(what, hint="a process that ends so is for models that predict velocity")
            return (noisy - sigma * output) / alpha
        case "velocity":
            return alpha * noisy - sigma * output
        case "edm":
            return alpha * noisy + sigma * output
        case "clean":
            return output


def to_target(
    clean: Float[Tensor, "*s"], noise: Float[Tensor, "*s"], alpha: Level, sigma: Level, prediction: Prediction
) -> Float[Tensor, "*s"]:
    """What the denoiser should put out at alpha * clean + sigma * noise. Velocity is alpha * noise - sigma * clean (arXiv 2202.00512)."""
    match prediction:
        case "noise":
            return noise
        case "velocity":
            return alpha * noise - sigma * clean
        case "edm":
            return sigma * clean - alpha * noise
        case "clean":
            return clean
