"""The autoencoders of diffusers with the sizes of ours, random weights for them, and the ways to run them."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

VIDEO = ("QwenConfig", "RefinerConfig")  # theirs take pictures as videos of one frame
CALM = 0.4  # of the weights of the last convolution, so that few values leave [-1, 1], where a difference could not be seen


def build_kl(config: SimpleNamespace) -> nn.Module:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(config.multipliers),
        up_block_types=("UpDecoderBlock2D",) * len(config.multipliers),
        block_out_channels=tuple(config.width * multiplier for multiplier in config.multipliers),
        layers_per_block=config.blocks,
        latent_channels=config.channels,
        norm_num_groups=config.groups,
        mid_block_add_attention=config.middle_attention,
        use_quant_conv=config.quant_convs,
        use_post_quant_conv=config.quant_convs,
    )


def build_flux2(config: SimpleNamespace) -> nn.Module:
    from diffusers import AutoencoderKLFlux2

    encoder, decoder = (tuple(width * multiplier for multiplier in config.multipliers) for width in (config.width, config.decoder_width))
    return AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * len(encoder),
        up_block_types=("UpDecoderBlock2D",) * len(encoder),
        block_out_channels=encoder,
        decoder_block_out_channels=None if decoder == encoder else decoder,
        layers_per_block=config.blocks,
        latent_channels=config.channels,
        norm_num_groups=config.groups,
    )


def build_qwen(config: SimpleNamespace) -> nn.Module:
    from diffusers import AutoencoderKLQwenImage

    return AutoencoderKLQwenImage(
        base_dim=config.width,
        z_dim=config.channels,
        dim_mult=list(config.multipliers),
        num_res_blocks=config.blocks,
        temperal_downsample=[index > 0 for index in range(len(config.multipliers) - 1)],
    )


def build_hunyuan(config: SimpleNamespace) -> nn.Module:
    from diffusers import AutoencoderKLHunyuanImage

    return AutoencoderKLHunyuanImage(
        in_channels=3,
        out_channels=3,
        latent_channels=config.channels,
        block_out_channels=tuple(config.width * multiplier for multiplier in config.multipliers),
        layers_per_block=config.blocks,
        spatial_compression_ratio=config.downscale,
        sample_size=384,
    )


def build_refiner(config: SimpleNamespace) -> nn.Module:
    from diffusers import AutoencoderKLHunyuanImageRefiner

    return AutoencoderKLHunyuanImageRefiner(
        latent_channels=config.channels,
        block_out_channels=tuple(config.width * multiplier for multiplier in config.multipliers),
        layers_per_block=config.blocks,
        spatial_compression_ratio=config.downscale,
        temporal_compression_ratio=2**config.halvings_of_time,
    )


NETWORKS: dict[str, Callable[[SimpleNamespace], nn.Module]] = {
    "KLConfig": build_kl,
    "Flux2Config": build_flux2,
    "QwenConfig": build_qwen,
    "HunyuanConfig": build_hunyuan,
    "RefinerConfig": build_refiner,
}


def build_empty(facts: dict[str, Any]) -> nn.Module:
    """Names and shapes alone; `facts` as `codec_cases.to_facts` gives them."""
    with torch.device("meta"):
        return NETWORKS[facts["kind"]](SimpleNamespace(**facts)).eval()


def draw_tensor(name: str, shape: tuple[int, ...]) -> Tensor:
    """Random numbers that depend on the name alone, of a size that keeps signals at about 1; no norm is the identity, no bias is 0."""
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
    if name.endswith("running_var"):
        return tensor.square() + 0.5
    if name.endswith(("bias", "running_mean")):
        return 0.2 * tensor
    if name.endswith("gamma") or len(shape) < 2:
        return 1 + 0.3 * tensor
    scale = CALM if name.startswith("decoder.conv_out.") else 1.0
    return tensor * (scale * tensor[0].numel() ** -0.5)


def write_weights(network: nn.Module, space: str, path: Path) -> None:
    """A file with names and shapes of the network."""
    tensors = {
        name: draw_tensor(name, tuple(one.shape)) if one.dtype.is_floating_point else torch.zeros(one.shape, dtype=one.dtype)
        for name, one in network.state_dict().items()
    }
    save_file(tensors, path, metadata={"eightfold.space": space})


def write_input(facts: dict[str, Any], way: str, side: int, path: Path) -> None:
    """Noise: as an image in [-1, 1], or as a raw latent."""
    draw = np.random.default_rng(0).standard_normal
    cells = side // facts["downscale"]
    shape = (1, 3, side, side) if way == "encode" else (1, facts["channels"], cells, cells)
    numbers = draw(shape, dtype=np.float32)
    np.save(path, np.clip(numbers / 3, -1, 1) if way == "encode" else numbers)


class OneWay(nn.Module):
    """A picture to the mean of its posterior, or a raw latent to a picture in [-1, 1]; no frames go in and none come out."""

    def __init__(self, network: nn.Module, way: str, *, video: bool) -> None:
        super().__init__()
        self.network, self.way, self.video = network, way, video

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, None] if self.video else x
        y = self.network.encode(x).latent_dist.mode() if self.way == "encode" else self.network.decode(x).sample.clamp(-1, 1)
        return y[:, :, 0] if self.video else y


def load_theirs(facts: dict[str, Any], way: str, weights: str) -> OneWay:
    network = build_empty(facts)
    network.load_state_dict(load_file(weights), strict=True, assign=True)
    return OneWay(network, way, video=facts["kind"] in VIDEO).eval()


def build_eager(facts: dict[str, Any], way: str, weights: str, x: np.ndarray, *, last: bool) -> Callable[[], np.ndarray]:
    """diffusers as it is, or with weights and input in channels-last memory (for videos, torch's kind of it for five axes)."""
    network, given = load_theirs(facts, way, weights), torch.from_numpy(x)
    if last:
        formats = {4: torch.channels_last, 5: torch.channels_last_3d}
        for parameter in network.parameters():  # all are copied, so that the file's pages are given back
            parameter.data = parameter.data.clone(memory_format=formats.get(parameter.ndim, torch.contiguous_format))
        given = given.contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def run() -> np.ndarray:
        return network(given).contiguous().numpy()

    return run


def build_openvino(facts: dict[str, Any], way: str, weights: str, x: np.ndarray, threads: int) -> Callable[[], np.ndarray]:
    """Converted from diffusers' network for this one shape, float32 throughout, tuned for one picture at a time."""
    import openvino

    network = load_theirs(facts, way, weights)
    for part in network.modules():
        if isinstance(part, nn.Upsample) and part.mode == "nearest-exact":
            part.mode = "nearest"  # the same where sides double, and known to the converter
    with torch.no_grad():
        traced = torch.jit.trace(network, torch.from_numpy(x), check_trace=False)  # the check would run it again
        model = openvino.convert_model(traced, example_input=torch.from_numpy(x), input=[tuple(x.shape)])
    del network, traced
    config = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    request = openvino.compile_model(model, "CPU", config).create_infer_request()

    def run() -> np.ndarray:
        return request.infer([x])[0]

    return run
