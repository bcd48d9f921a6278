"""ESRGAN's weights out of the layouts in which they are published: BasicSR's, and two that are older.

Sources of the names: XPixelGroup/BasicSR basicsr/archs/rrdbnet_arch.py (Real-ESRGAN's), xinntao/ESRGAN RRDBNet_arch.py, and the numbered
lists of xinntao/ESRGAN's first release (old-arch), in which the convolutions behind the blocks count on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isqrt
from pathlib import Path

from ..core.device import Placement
from ..core.errors import UnknownCheckpoint
from ..nn.rrdb import RRDBNet
from ..specs.network import RRDBConfig
from .entries import Inventory
from .inventory import read_inventory
from .load import load_module, read_tensors

MIDDLE = (  # xinntao's names -> BasicSR's
    (r"RRDB_trunk\.(\d+)\.RDB([123])\.(conv[1-5])\.", r"body.\1.rdb\2.\3."),
    (r"trunk_conv\.", "conv_body."),
    (r"upconv(\d)\.", r"conv_up\1."),
    (r"HRconv\.", "conv_hr."),
)
OLD_BLOCK = re.compile(r"model\.1\.sub\.(\d+)\.RDB([123])\.(conv[1-5])\.0\.")
OLD = re.compile(r"model\.(\d+)\.")
OLD_BODY = re.compile(r"model\.1\.sub\.\d+\.(weight|bias)")
BLOCK = re.compile(r"body\.(\d{1,4})\.")
UP = re.compile(r"conv_up(\d)\.weight")
WRAPPER = "module."  # of networks that were trained on several GPUs


def read_enlarger(path: str | Path, placement: Placement) -> RRDBNet:
    """The network in a weight file of any format. Raises CheckpointError for a file that is none, WeightMismatch for a variant of it."""
    inventory = read_inventory(path)
    names, config = to_names(inventory), find_config(inventory)
    tensors = {names[name]: tensor for name, tensor in read_tensors(inventory).items()}
    return load_module(lambda: RRDBNet(config), tensors, source=str(path), device=placement.device, dtype=placement.dtype)


def read_enlarger_config(path: str | Path) -> RRDBConfig:
    """The same from the header alone."""
    return find_config(read_inventory(path))


def to_names(inventory: Inventory) -> dict[str, str]:
    """The file's names -> BasicSR's."""
    bare = {name: name.removeprefix(WRAPPER) for name in inventory.tensors}
    behind = sorted({int(found[1]) for name in bare.values() if (found := OLD.match(name)) and int(found[1]) > 1})
    entries = {0: "conv_first"} | {number: f"conv_up{count}" for count, number in enumerate(behind[:-2], 1)}
    entries |= dict(zip(behind[-2:], ("conv_hr", "conv_last"), strict=False))
    return {name: to_name(short, entries) for name, short in bare.items()}


def to_name(name: str, entries: Mapping[int, str]) -> str:
    """BasicSR's name for a tensor; one that is not known stays. `entries` are those of a numbered list."""
    block = OLD_BLOCK.match(name)
    if block is not None:
        return f"body.{block[1]}.rdb{block[2]}.{block[3]}.{name[block.end() :]}"
    if OLD_BODY.fullmatch(name):
        return f"conv_body.{name.rpartition('.')[2]}"
    old = OLD.match(name)
    if old is not None:
        return f"{entries.get(int(old[1]), name)}.{name[old.end() :]}"
    for pattern, ours in MIDDLE:
        found = re.match(pattern, name)
        if found is not None:
            return found.expand(ours) + name[found.end() :]
    return name


def find_config(inventory: Inventory) -> RRDBConfig:
    """What the shapes say of the network. Raises UnknownCheckpoint where they are not its."""
    names, source = to_names(inventory), inventory.source
    shapes = {names[name]: entry.shape for name, entry in inventory.tensors.items()}
    first, growth, last = (shapes.get(f"{name}.weight", ()) for name in ("conv_first", "body.0.rdb1.conv1", "conv_last"))
    blocks = {int(found[1]) for name in shapes if (found := BLOCK.match(name))}
    ups = {int(found[1]) for name in shapes if (found := UP.fullmatch(name))}
    folding = isqrt(first[1] // 3) if len(first) == 4 else 0
    if len(growth) != 4 or len(last) != 4 or not folding or first[1] != 3 * folding**2 or last[0] != 3 or len(ups) > 4:
        what = f"{source} is no network of ESRGAN's kind (RRDBNet) for pictures in colour"
        raise UnknownCheckpoint(
            what, hint="other kinds of networks that enlarge are not known here; `eightfold info FILE` lists what is in it"
        )
    return RRDBConfig(width=first[0], growth=growth[0], blocks=len(blocks), doublings=len(ups), folding=folding)
