"""ControlNet: a copy of a U-Net's way down that is shown a picture, and says what to add to the U-Net's skips (arXiv 2302.05543)."""

from __future__ import annotations

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ..nn.stages import Convolution, State, run_stages
from ..specs.control import ControlConfig
from .unet import ControlResiduals, HalfUNet, list_skips, list_widths


class Stem(nn.Module):
    """A picture to features in the size of a latent: at every level a convolution, and one that halves."""

    def __init__(self, config: ControlConfig) -> None:
        super().__init__()
        self.conv_in = Convolution(config.hint_channels, config.stem[0])
        blocks: list[nn.Module] = []
        for width, next_width in pairwise(config.stem):
            blocks += [Convolution(width, width), nn.Conv2d(width, next_width, 3, stride=2, padding=1)]
        self.blocks = nn.ModuleList(blocks)
        self.conv_out = build_silent(config.stem[-1], list_widths(config.unet)[0], 3)

    def forward(self, hint: Tensor) -> Tensor:
        x = F.silu(self.conv_in(hint))
        for block in self.blocks:
            x = F.silu(block(x))
        return self.conv_out(x)


class ControlNet(HalfUNet):
    """Noisy latent, timestep, tokens and a picture to what is added to the skips and the middle of the U-Net.

    As it is made, before any training, it adds nothing.
    """

    def __init__(self, config: ControlConfig) -> None:
        super().__init__(config.unet)
        skips = list_skips(config.unet)
        self.controlnet_cond_embedding = Stem(config)
        self.controlnet_down_blocks = nn.ModuleList(build_silent(width, width, 1) for width in skips)
        self.controlnet_mid_block = build_silent(skips[-1], skips[-1], 1)

    def show(self, hint: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h2 w2"]:
        """What `forward` takes of a picture in [0, 1], eight times as large as the latent. It is the same at every step."""
        return self.controlnet_cond_embedding(hint)

    def forward(
        self,
        noisy: Float[Tensor, "b c h w"],
        timestep: Float[Tensor, " b"],
        shown: Float[Tensor, "#b c2 h w"],
        tokens: Float[Tensor, "b n d"] | None = None,
        vector: Float[Tensor, "b v"] | None = None,
    ) -> ControlResiduals:
        """As in UNet; `noisy` is the latent alone, without what an inpainting network is shown beside it. `shown`: see `show`."""
        state = State(time=self.embed(timestep, vector, noisy.dtype), tokens=tokens)
        middle = run_stages(self.stages_down(), self.conv_in(noisy) + shown, state)
        skips = tuple(silent(skip) for silent, skip in zip(self.controlnet_down_blocks, state.skips, strict=True))
        return ControlResiduals(skips, self.controlnet_mid_block(middle))


def build_silent(channels: int, out_channels: int, kernel: int) -> Convolution:
    """A convolution that begins as 0, so that training does not begin with noise in the U-Net (section 3.1)."""
    convolution = Convolution(channels, out_channels, kernel)
    for parameter in convolution.parameters():
        nn.init.zeros_(parameter)
    return convolution
