"""Adapters as the public trainers write them: the tensors of a change, under the names of each layout."""

from __future__ import annotations

from torch import Tensor, nn, tensor

from eightfold.checkpoints.lookup import translate
from eightfold.nn.lowrank import Change, Decomposed, Full, LowRank
from eightfold.nn.products import Hadamard, Kronecker
from eightfold.specs.keymap import Keymap

Tensors = dict[str, Tensor]


def to_tensors(change: Change, layer: nn.Module) -> Tensors:
    """By the names of kohya and LyCORIS, without the layer's; convolutions in the shapes that convolutions have."""
    if isinstance(change, Decomposed):
        kernel = [1] * (layer.weight.ndim - 2)
        shape = [1, -1, *kernel] if change.by_input else [-1, 1, *kernel]
        return {**to_tensors(change.difference, layer), "dora_scale": change.magnitude.reshape(shape)}
    if isinstance(change, Full):
        return {"diff": change.matrix.reshape(layer.weight.shape)}
    if isinstance(change, LowRank):
        return to_lora(change, layer)
    if isinstance(change, Hadamard):
        halves = to_half(change.first, "hada_w1", "hada_t1") | to_half(change.second, "hada_w2", "hada_t2")
        return halves | {"alpha": tensor(change.scale * len(change.first.down))}
    assert isinstance(change, Kronecker)
    products = [half for half in (change.left, change.right) if isinstance(half, LowRank)]
    tensors = to_factor(change.left, "lokr_w1", layer, ()) | to_factor(change.right, "lokr_w2", layer, layer.weight.shape[2:])
    if products:
        return tensors | {"alpha": tensor(change.scale * len(products[-1].down))}
    return tensors | {"lokr_w2": change.scale * tensors["lokr_w2"], "alpha": tensor(123.0)}  # without a rank alpha means nothing


def to_lora(change: LowRank, layer: nn.Module) -> Tensors:
    up, down = change.up, change.down
    if isinstance(layer, nn.Conv2d):
        up = up[:, :, None, None]
        down = down.reshape(len(down), -1, *layer.kernel_size) if change.core is None else down[:, :, None, None]
    core = {} if change.core is None else {"lora_mid.weight": change.core}
    return {"lora_up.weight": up, "lora_down.weight": down, **core, "alpha": tensor(change.scale * len(down))}


def to_half(half: LowRank, name: str, core: str) -> Tensors:
    if half.core is None:
        return {f"{name}_a": half.scale * half.up, f"{name}_b": half.down}
    return {f"{name}_a": half.up.T, f"{name}_b": half.down, core: half.core}


def to_factor(half: Full | LowRank, name: str, layer: nn.Module, kernel: tuple[int, ...]) -> Tensors:
    if isinstance(half, LowRank):
        return to_half(half, name, "lokr_t2")
    return {name: half.matrix.reshape(len(half.matrix), -1, *kernel)}


# Layouts of LoRA: how a layer's name begins, what is between its words, and what the two factors and alpha are called
LAYOUTS: dict[str, tuple[str, str, str, str, str | None]] = {
    "kohya": ("lora_unet_", "_", ".lora_down.weight", ".lora_up.weight", ".alpha"),
    "kohya, original": ("lora_unet_", "_", ".lora_down.weight", ".lora_up.weight", ".alpha"),
    "lycoris": ("lycoris_", "_", ".lora_down.weight", ".lora_up.weight", ".alpha"),
    "comfy, original": ("diffusion_model.", ".", ".lora_A.weight", ".lora_B.weight", ".alpha"),
    "diffusers": ("unet.", ".", ".lora.down.weight", ".lora.up.weight", ".alpha"),
    "diffusers, bare": ("", ".", ".lora.down.weight", ".lora.up.weight", None),
    "peft": ("unet.", ".", ".lora_A.weight", ".lora_B.weight", None),
    "peft, raw": ("base_model.model.", ".", ".lora_A.weight", ".lora_B.weight", None),
    "peft, named": ("base_model.model.unet.", ".", ".lora_A.default.weight", ".lora_B.default.weight", None),
    "processors": ("unet.", ".", "_lora.down.weight", "_lora.up.weight", None),
}


def name_layer(layer: str, layout: str, keymap: Keymap | None = None) -> str | None:
    """A layer's name, and None where the layout cannot name it."""
    begin, between, *_ = LAYOUTS[layout]
    if layout.endswith("original"):
        assert keymap is not None
        layer = translate(f"{layer}.weight", keymap)[0].name.removesuffix(".weight")
    if layout == "processors":
        if ".to_" not in layer:
            return None
        layer = layer.replace(".to_", ".processor.to_").removesuffix(".0")
    return begin + layer.replace(".", between)


def name_tensors(change: LowRank, name: str, layout: str) -> Tensors:
    """The scale is in alpha, or in one factor where the layout knows no alpha."""
    *_, down, up, alpha = LAYOUTS[layout]
    if alpha is None:
        return {name + down: change.down, name + up: change.scale * change.up}
    return {name + down: change.down, name + up: change.up, name + alpha: tensor(change.scale * len(change.down))}
