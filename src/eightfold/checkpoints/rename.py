"""Other names for the same tensors: a keymap's rows, applied forwards and backwards. No torch here.

What is renamed may be anything that has a shape and can be cut and joined along its first axis: `to_names` works on bare shapes, so that a
file's inventory can be renamed without its tensors; `convert.py` works on tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Generic, NamedTuple, TypeVar

from ..core.errors import WeightMismatch
from ..specs.keymap import Dropped, Keymap
from .patterns import parse_pattern
from .rules import Rule, build_finder, compile_rules, covers

T = TypeVar("T")
Shape = tuple[int, ...]
HINT = "`eightfold info FILE` lists what is in it"

# Autoencoders saved by early versions of diffusers name the parts of their attention otherwise
EARLY_ATTENTION = (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0"))


class Material(NamedTuple, Generic[T]):
    """What can be done with the things that are renamed.

    `cut` takes rows first to last - 1, `turn` makes rows of columns, `fill` makes one of a shape beside another.
    """

    shape: Callable[[T], Shape]
    cut: Callable[[T, int, int], T]
    join: Callable[[Sequence[T]], T]
    reshape: Callable[[T, Shape], T]
    turn: Callable[[T], T]
    fill: Callable[[T, float], T]


def join_shapes(shapes: Sequence[Shape]) -> Shape:
    return (sum(shape[0] for shape in shapes), *shapes[0][1:])


SHAPES = Material[Shape](
    shape=lambda shape: shape,
    cut=lambda shape, first, last: (last - first, *shape[1:]),
    join=join_shapes,
    reshape=lambda _, shape: shape,
    turn=lambda shape: shape[::-1],
    fill=lambda like, _: like,
)


def rename_early_attention(tensors: Mapping[str, T]) -> dict[str, T]:
    """`mid_block.attentions.0.query.weight` to `mid_block.attentions.0.to_q.weight` and so on; every other name stays."""
    renamed: dict[str, T] = {}
    for name, tensor in tensors.items():
        for early, now in EARLY_ATTENTION:
            name = name.replace(f".attentions.0.{early}.", f".attentions.0.{now}.")
        renamed[name] = tensor
    return renamed


def to_names(shapes: Mapping[str, Shape], keymap: Keymap) -> dict[str, Shape]:
    """The names and shapes that a file in the other layout has in ours; names that no row claims stay. Raises WeightMismatch."""
    return rename(shapes, keymap, SHAPES)


def to_original_names(shapes: Mapping[str, Shape], keymap: Keymap) -> dict[str, Shape]:
    """The way back: names and shapes in the keymap's other layout. Raises WeightMismatch."""
    return rename_back(shapes, keymap, SHAPES)


def rename(things: Mapping[str, T], keymap: Keymap, material: Material[T]) -> dict[str, T]:
    """Raises WeightMismatch where a thing cannot be cut as its row says, or two would have one name."""
    for spelling in keymap.spellings:
        things = rename(things, spelling, material)
    dropped = [parse_pattern(one.before) for one in keymap.dropped]
    find = build_finder(compile_rules(keymap), back=False)
    renamed: dict[str, T] = {}
    for name, thing in things.items():
        if dropped and any(covers(pattern, name) for pattern in dropped):
            continue
        claim = find(name)
        if claim is None:
            add(renamed, name, thing, name)
            continue
        for head, piece in zip(claim.heads, cut_pieces(name, thing, claim.rule, material), strict=True):
            add(renamed, head + claim.rest, piece, name)
    return renamed


def rename_back(things: Mapping[str, T], keymap: Keymap, material: Material[T]) -> dict[str, T]:
    """Raises WeightMismatch where parts of a tensor are missing or do not fit, two would have one name, or a dropped tensor is unknown."""
    find = build_finder(compile_rules(keymap), back=True)
    groups: dict[str, tuple[Rule | None, dict[int, tuple[str, T]]]] = {}
    for name, thing in things.items():
        claim = find(name)
        rule, part, target = None, 0, name
        if claim is not None:
            rule, part, target = claim.rule, claim.part, claim.heads[0] + claim.rest
        there, parts = groups.setdefault(target, (rule, {}))
        if there is not rule or part in parts:
            refuse_twice(target, [*(one for one, _ in parts.values()), name])
        parts[part] = (name, thing)
    renamed = {target: join_pieces(target, rule, parts, material) for target, (rule, parts) in groups.items()}
    for one in keymap.dropped:
        restore_dropped(renamed, one, keymap.name, material)
    return renamed


def add(renamed: dict[str, T], target: str, thing: T, name: str) -> None:
    if target in renamed:
        refuse_twice(target, [name])
    renamed[target] = thing


def refuse_twice(target: str, names: Sequence[str]) -> None:
    raise WeightMismatch(f"{' and '.join(names)} would be a second {target}: the file mixes two layouts", hint=HINT)


def cut_pieces(name: str, thing: T, rule: Rule, material: Material[T]) -> list[T]:
    if not rule.change and len(rule.after) == 1:
        return [thing]
    shape = material.shape(thing)
    if rule.change == "squeeze":
        if len(shape) < 3:  # a bias, or a weight that is a linear map already
            return [thing]
        if any(size != 1 for size in shape[2:]):
            raise WeightMismatch(f"{name} is {list(shape)}, expected a 1x1 convolution", hint=HINT)
        return [material.reshape(thing, shape[:2])]
    if rule.change == "swap":
        return [swap_halves(name, thing, material)]
    if rule.change == "turn":
        return [turn_over(name, thing, material)]
    unit, left = divmod(shape[0], sum(rule.shares)) if shape else (0, 1)
    if left:
        parts = ":".join(map(str, rule.shares))
        raise WeightMismatch(f"{name} is {list(shape)}, expected a number of rows that can be cut {parts}", hint=HINT)
    ends = accumulate((share * unit for share in rule.shares), initial=0)
    return [material.cut(thing, first, last) for first, last in pairwise(ends)]


def swap_halves(name: str, thing: T, material: Material[T]) -> T:
    shape = material.shape(thing)
    if not shape or shape[0] % 2:
        raise WeightMismatch(f"{name} is {list(shape)}, expected an even number of rows", hint=HINT)
    half = shape[0] // 2
    return material.join([material.cut(thing, half, shape[0]), material.cut(thing, 0, half)])


def turn_over(name: str, thing: T, material: Material[T]) -> T:
    shape = material.shape(thing)
    if len(shape) != 2:
        raise WeightMismatch(f"{name} is {list(shape)}, expected rows and columns", hint=HINT)
    return material.turn(thing)


def join_pieces(target: str, rule: Rule | None, parts: Mapping[int, tuple[str, T]], material: Material[T]) -> T:
    name, thing = next(iter(parts.values()))
    if rule is None:
        return thing
    if rule.change == "squeeze":
        shape = material.shape(thing)
        return material.reshape(thing, (*shape, 1, 1)) if len(shape) == 2 else thing
    if rule.change == "swap":
        return swap_halves(name, thing, material)
    if rule.change == "turn":
        return turn_over(name, thing, material)
    if len(rule.after) == 1:
        return thing
    if len(parts) < len(rule.after):
        there = ", ".join(one for one, _ in parts.values())
        raise WeightMismatch(f"{target} is made of {len(rule.after)} tensors, found {len(parts)} ({there})", hint=HINT)
    pieces = [parts[part][1] for part in range(len(parts))]
    check_pieces(target, [material.shape(piece) for piece in pieces], rule.shares)
    try:
        return material.join(pieces)
    except WeightMismatch as error:
        raise WeightMismatch(f"{target} cannot be joined: {error}", hint=error.hint) from None


def check_pieces(target: str, shapes: Sequence[Shape], shares: Sequence[int]) -> None:
    """Cut again, the whole must give the same pieces."""
    if (
        all(shapes)
        and len({shape[1:] for shape in shapes}) == 1
        and all(shape[0] * shares[0] == share * shapes[0][0] for shape, share in zip(shapes, shares, strict=True))
    ):
        return
    found = ", ".join(str(list(shape)) for shape in shapes)
    raise WeightMismatch(f"the parts of {target} are {found}, expected rows as {':'.join(map(str, shares))}", hint=HINT)


def restore_dropped(renamed: dict[str, T], dropped: Dropped, source: str, material: Material[T]) -> None:
    pattern = parse_pattern(dropped.before)
    if any(covers(pattern, name) for name in renamed):
        return
    if dropped.value is None and not dropped.needed:
        return
    if dropped.value is None:
        raise WeightMismatch(
            f"the original layout of {source} has {dropped.before}, which ours leaves out ({dropped.reason})",
            hint=f"add {dropped.before} from the original file",
        )
    if dropped.like not in renamed:
        raise WeightMismatch(f"{dropped.before} takes its shape from {dropped.like}, which is not there", hint=HINT)
    renamed[dropped.before] = material.fill(renamed[dropped.like], dropped.value)
