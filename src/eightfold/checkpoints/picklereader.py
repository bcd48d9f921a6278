"""What torch.save writes beside its numbers, read without running it: a machine of our own for the pickle format (PEP 3154, PEP 307).

A pickle is a program that may import and call anything. Here a global is a name and nothing more; six names that build tensor
descriptions are known, and every other call gives an inert object that only says what it would have been.
"""

from __future__ import annotations

from collections.abc import Callable
from pickletools import genops
from typing import Any, NamedTuple
from warnings import catch_warnings, simplefilter

from .formats import BITS, is_shape, show

MOST_STEPS = 400_000  # a model of 2,000 tensors takes 65,000
MOST_SLOTS = 2**32
LONGEST_NAME = 500  # of a class or function
MOST_ARGUMENTS = 16
STORAGES = {
    "DoubleStorage": "F64",
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
    "ComplexFloatStorage": "C64",
    "UntypedStorage": "U8",
}
DTYPES = {
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e8m0fnu": "F8_E8M0",
    "uint16": "U16",
    "uint32": "U32",
    "uint64": "U64",
}
VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}


class Name(NamedTuple):
    """A global of Python, by name; it is never imported."""

    module: str
    name: str


class Storage(NamedTuple):
    """`size` numbers in the archive's entry `key`."""

    dtype: str
    key: str
    size: int


class View(NamedTuple):
    """A tensor: `offset` and `strides` count numbers of its storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Inert:
    """What an unknown call would have made; `items` are what was put into it, `state` is what it would have been told about itself."""

    __slots__ = ("items", "name", "state")

    def __init__(self, name: Name) -> None:
        self.name, self.items, self.state = name, {}, None


class Pickled(NamedTuple):
    """The root object, and the unknown names that the pickle would have called."""

    root: Any
    unknown: tuple[str, ...]


def read_pickle(content: bytes) -> Pickled:
    """Run nothing and read all: dicts, lists, numbers, texts and View for tensors. Raises ValueError for a pickle that cannot be."""
    machine = Machine()
    try:
        with catch_warnings():
            simplefilter("ignore")  # of texts with odd escapes
            for step, (operation, argument, _) in enumerate(genops(content)):
                if step > MOST_STEPS:
                    raise ValueError("it has more steps than any model needs")
                machine.run(operation.name, argument)
        return Pickled(machine.stack.pop(), tuple(machine.unknown))
    except (IndexError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"its steps do not fit together ({type(error).__name__})") from None


class Machine:
    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []  # what lay below each mark
        self.memo: dict[int, Any] = {}
        self.unknown: dict[str, None] = {}

    def run(self, name: str, argument: Any) -> None:
        if name in VALUES:
            self.stack.append(argument)
        elif name in CONSTANTS:
            self.stack.append(CONSTANTS[name])
        elif name in STEPS:
            STEPS[name](self, argument)
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise ValueError(f"it uses {name}, which torch.save never writes")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self, _: Any) -> None:
        self.outer.append(self.stack)
        self.stack = []

    def take_marked(self) -> list[Any]:
        items, self.stack = self.stack, self.outer.pop()
        return items

    def take(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise IndexError
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def put(self, slot: int | None) -> None:
        slot = len(self.memo) if slot is None else slot
        if not 0 <= slot < MOST_SLOTS:  # integers that a hash table spreads badly are larger
            raise ValueError("it remembers at an impossible place")
        self.memo[slot] = self.stack[-1]

    def append(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)

    def fill(self, items: list[Any]) -> None:
        """Keys and values by turns into the dict on top. Only texts stay keys: other keys name no tensor, and may be slow to hash."""
        holder = self.stack[-1].items if isinstance(self.stack[-1], Inert) else self.stack[-1]
        if not isinstance(holder, dict) or len(items) % 2:
            raise TypeError
        for key, value in zip(items[::2], items[1::2], strict=True):
            if isinstance(key, str) and key in holder:
                raise ValueError(f"{show(key)} is there twice")
            if isinstance(key, str):
                holder[key] = value

    def make_dict(self, items: list[Any]) -> None:
        self.stack.append({})
        self.fill(items)

    def discard(self) -> None:
        """The top goes, be it a value or a mark."""
        self.stack.pop() if self.stack else self.take_marked()

    def build(self) -> None:
        """A state for the object below: it is kept beside an inert one, unused, and forgotten for anything else."""
        (state,) = self.take(1)
        if isinstance(self.stack[-1], Inert):
            self.stack[-1].state = state

    def push_call(self, function: Any, arguments: Any) -> None:
        self.stack.append(self.call(function, arguments))

    def call(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, Name):
            return Inert(Name("", "a result")) if not isinstance(function, Inert) else Inert(function.name)
        if function == REBUILD_OTHER:
            return self.call(arguments[0], arguments[2])
        builder = BUILDERS.get(function)
        if builder is not None:
            if not isinstance(arguments, tuple) or len(arguments) > MOST_ARGUMENTS:
                raise ValueError(f"it calls {function.name} with other arguments than torch does")
            return builder(*arguments)
        if len(self.unknown) < 20:
            self.unknown[show(f"{function.module}.{function.name}")] = None
        return Inert(function)


def to_name(module: Any, name: Any) -> Name:
    if not isinstance(module, str) or not isinstance(name, str):
        raise TypeError
    if len(module) + len(name) > LONGEST_NAME:  # one that is called again and again would be written down as often
        raise ValueError(f"it names a function of {len(module) + len(name)} letters")
    return Name(module, name)


def to_storage(token: Any) -> Storage | Inert:
    """("storage", type, key, device, count), as torch marks what lies in another entry."""
    kind, storage, key, _, count = token
    if kind != "storage" or not isinstance(storage, Name) or not isinstance(key, str) or not is_shape([count]):
        raise ValueError("a storage is not described as torch does")
    dtype = STORAGES.get(storage.name) if storage.module in ("torch", "torch.cuda", "torch.storage") else None
    return Inert(storage) if dtype is None else Storage(dtype, key, count)


def build_view(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> View | Inert:
    if isinstance(storage, Inert):
        return storage
    if not isinstance(storage, Storage) or not is_shape(shape) or not is_shape(strides) or not is_shape([offset]):
        raise ValueError("a tensor is not described as torch does")
    if len(shape) != len(strides):
        raise ValueError("a tensor has another number of strides than of axes")
    return View(storage, offset, tuple(shape), tuple(strides))


def build_typed_view(storage: Any, offset: Any, shape: Any, strides: Any, _: Any, __: Any, dtype: Any, *___: Any) -> View | Inert:
    """The form for types without a storage class of their own: the storage is bytes, the offset counts numbers."""
    known = DTYPES.get(dtype.name) if dtype.module == "torch" else None
    if isinstance(storage, Storage) and known is None:
        return Inert(dtype)
    if isinstance(storage, Storage):
        storage = Storage(str(known), storage.key, storage.size * BITS[storage.dtype] // BITS[str(known)])
    return build_view(storage, offset, shape, strides)


def build_dict(*pairs: Any) -> dict[str, Any] | Inert:
    """An empty one: Python 3 fills it later. Copying pairs here would let a short pickle copy a long list over and over."""
    return Inert(Name("collections", "OrderedDict")) if pairs else {}


def build_size(sizes: Any = ()) -> tuple[int, ...]:
    if not is_shape(sizes):
        raise ValueError("a size is not described as torch does")
    return tuple(sizes)


BUILDERS: dict[Name, Callable[..., Any]] = {
    Name("collections", "OrderedDict"): build_dict,
    Name("torch", "Size"): build_size,
    Name("torch._utils", "_rebuild_tensor"): build_view,
    Name("torch._utils", "_rebuild_tensor_v2"): build_view,
    Name("torch._utils", "_rebuild_tensor_v3"): build_typed_view,
    Name("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
    Name("torch._utils", "_rebuild_parameter_with_state"): lambda data, *_: data,
}
REBUILD_OTHER = Name("torch._tensor", "_rebuild_from_type_v2")  # (function, class, arguments, state) of a tensor with attributes

STEPS: dict[str, Callable[[Machine, Any], object]] = {
    "MARK": Machine.mark,
    "POP": lambda machine, _: machine.discard(),
    "POP_MARK": lambda machine, _: machine.take_marked(),
    "DUP": lambda machine, _: machine.push(machine.stack[-1]),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), Machine.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda machine, slot: machine.push(machine.memo[slot])),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "LIST": lambda machine, _: machine.push(machine.take_marked()),
    "APPEND": lambda machine, _: machine.append(machine.take(1)),
    "APPENDS": lambda machine, _: machine.append(machine.take_marked()),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.take_marked())),
    "TUPLE1": lambda machine, _: machine.push(tuple(machine.take(1))),
    "TUPLE2": lambda machine, _: machine.push(tuple(machine.take(2))),
    "TUPLE3": lambda machine, _: machine.push(tuple(machine.take(3))),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "DICT": lambda machine, _: machine.make_dict(machine.take_marked()),
    "SETITEM": lambda machine, _: machine.fill(machine.take(2)),
    "SETITEMS": lambda machine, _: machine.fill(machine.take_marked()),
    "EMPTY_SET": lambda machine, _: machine.push(Inert(Name("builtins", "set"))),
    "ADDITEMS": lambda machine, _: machine.take_marked(),
    "FROZENSET": lambda machine, _: machine.push(Inert(Name("builtins", f"frozenset of {len(machine.take_marked())}"))),
    "GLOBAL": lambda machine, text: machine.push(to_name(*text.split(" ", 1))),
    "STACK_GLOBAL": lambda machine, _: machine.push(to_name(*machine.take(2))),
    "BINPERSID": lambda machine, _: machine.push(to_storage(*machine.take(1))),
    "REDUCE": lambda machine, _: machine.push_call(*machine.take(2)),
    "NEWOBJ": lambda machine, _: machine.push_call(*machine.take(2)),
    "NEWOBJ_EX": lambda machine, _: machine.push_call(*machine.take(3)[:2]),
    "INST": lambda machine, text: machine.push_call(to_name(*text.split(" ", 1)), tuple(machine.take_marked())),
    "OBJ": lambda machine, _: machine.push_call(*(lambda items: (items[0], tuple(items[1:])))(machine.take_marked())),
    "BUILD": lambda machine, _: machine.build(),
}
