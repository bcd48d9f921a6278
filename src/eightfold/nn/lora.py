"""Low-rank changes attached to a network as branches beside its layers: weights are never written to, and removal leaves no trace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from weakref import WeakValueDictionary

from torch import Tensor, nn

from ..core.errors import WeightMismatch
from .lowrank import Branch, Change, Layer

SIDE = "side_branches"  # the attribute of a layer that has branches
OTHER = "attach it to a network like the one it was made for"


class Attachment:
    """Branches on the layers of one network that came together. `weight` multiplies them, and may be set between two runs.

    Attachments add up: each adds its difference to the network's own weights, whatever else is attached, in any order.
    """

    def __init__(self, layers: Mapping[str, Layer], weight: float) -> None:
        self.layers = WeakValueDictionary(layers)  # they hold the attachment: a circle would keep their memory until it is collected
        self.weight = weight

    def remove(self) -> None:
        """Take the branches away. A layer whose last branch goes is as it was before the first one came."""
        for layer in self.layers.values():
            side = vars(layer).get(SIDE)
            if side is not None and side.branches.pop(self, None) is not None and not side.branches:
                side.handle.remove()
                delattr(layer, SIDE)


class Side:
    """The one hook of a layer with branches: adds each, times its attachment's weight, to the layer's own result."""

    def __init__(self, layer: Layer) -> None:
        self.branches: dict[Attachment, Branch] = {}
        self.handle = layer.register_forward_hook(self)

    def __call__(self, layer: Layer, inputs: tuple[Any, ...], own: Tensor) -> Tensor:
        result = own
        for attachment, branch in self.branches.items():
            if attachment.weight:
                result = result.add(branch(layer, inputs[0], own), alpha=attachment.weight)
        return result


def attach(network: nn.Module, changes: Mapping[str, Change], weight: float = 1.0) -> Attachment:
    """Put every change beside the layer of that name. Factors are taken over in the type and on the device of the layer's weight.

    Changes that depend on the layer's own weight (DoRA) do so on what it is now. Raises WeightMismatch, and attaches nothing, where
    a name is no layer of the network or a change does not fit its layer.
    """
    layers = dict(list_layers(network))
    for name, change in changes.items():
        if name not in layers:
            raise WeightMismatch(f"{name} is no linear map or convolution of this network", hint=OTHER)
        if not change.fits(layers[name]):
            raise WeightMismatch(f"what is to be attached to {name} does not fit its weight {list(layers[name].weight.shape)}", hint=OTHER)
    branches = {name: change.build_branch(layers[name]) for name, change in changes.items()}
    attachment = Attachment({name: layers[name] for name in changes}, weight)
    for name, branch in branches.items():
        layer = layers[name]
        if SIDE not in vars(layer):
            setattr(layer, SIDE, Side(layer))
        vars(layer)[SIDE].branches[attachment] = branch
    return attachment


def has_branches(module: nn.Module) -> bool:
    """Whether anything is attached to the module or a part of it: what computes with its weights itself would miss that."""
    return any(SIDE in vars(part) for part in module.modules())


def list_layers(network: nn.Module) -> Iterator[tuple[str, Layer]]:
    """Every layer that can have branches, by its name: linear maps and plain convolutions."""
    closed: tuple[str, ...] = ()
    for name, part in network.named_modules():
        if isinstance(part, nn.MultiheadAttention):  # runs on its parts' weights and never calls them
            closed = (*closed, f"{name}." if name else "")
        is_plain = isinstance(part, nn.Conv2d) and part.groups == 1 and part.padding_mode == "zeros"
        if (isinstance(part, nn.Linear) or is_plain) and not name.startswith(closed):
            yield name, part  # type: ignore[misc]
