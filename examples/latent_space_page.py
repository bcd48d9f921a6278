"""The page of `make figures`: what its sections are made of, what is kept of them between runs, and how the page is filled."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from eightfold.codec.pixels import to_pil
from eightfold.core.errors import EightfoldError
from eightfold.core.files import write_atomically

PAGE = Path("docs/latent-space.md")
PICTURES = Path("docs/pictures")
KEPT = Path("runs/latent-space")  # everything that takes time; remove it to measure anew
LARGEST = 190_000  # bytes of a picture on the page


@dataclass(frozen=True)
class Section:
    """What one section adds to the page: tables and pictures ([-1, 1], one sheet each) by name."""

    tables: Mapping[str, str]
    pictures: Mapping[str, Float[Tensor, "1 3 h w"]]


def keep(name: str, facts: Sequence[object], make: Callable[..., Section], *arguments: object) -> dict[str, str]:
    """The tables of a section, made once for the same `facts` and the same code; its pictures are put in their place."""
    code = [Path(file).read_text(encoding="utf-8") for file in (__file__, inspect.getfile(make))]
    key = sha256(json.dumps([name, code, [str(fact) for fact in facts]]).encode()).hexdigest()[:12]
    folder = KEPT / f"{name}-{key}"
    if not (folder / "tables.json").exists():
        section = make(*arguments)
        for picture, sheet in section.pictures.items():
            write(folder / f"latent-space-{picture}.png", to_png(sheet))
        write(folder / "tables.json", json.dumps(dict(section.tables)).encode())
    for path in sorted(folder.glob("*.png")):
        write(PICTURES / path.name, path.read_bytes())
    return json.loads((folder / "tables.json").read_text(encoding="utf-8"))


def write(path: Path, content: bytes) -> None:
    with write_atomically(path, overwrite=True) as temporary:
        temporary.write_bytes(content)


def to_png(sheet: Float[Tensor, "1 3 h w"]) -> bytes:
    """In full colour, or with 256 colours where that would be too large for a page."""
    picture, file = to_pil(sheet), BytesIO()
    picture.save(file, "PNG", optimize=True)
    if len(file.getvalue()) > LARGEST:
        file = BytesIO()
        picture.quantize(256, dither=0).save(file, "PNG", optimize=True)
    return file.getvalue()


def to_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, numbers to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def fill_page(tables: Mapping[str, str]) -> None:
    """Put each table between the markers that carry its name. Raises EightfoldError where the page has no such place."""
    text = PAGE.read_text(encoding="utf-8")
    for name, table in tables.items():
        begin, end = f"<!-- table: {name} -->\n", "<!-- end -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise EightfoldError(f"{PAGE} has no place for the table {name}", hint=f"write {begin.strip()} and {end} on lines of their own")
        text = f"{before}{begin}\n{table}\n\n{end}{after}"
    write(PAGE, text.encode())


def shrink(images: Float[Tensor, "b 3 h w"], side: int) -> Float[Tensor, "b 3 h2 w2"]:
    """To `side` pixels, for a strip."""
    if images.shape[-1] == side:
        return images
    return F.interpolate(images, size=(side, side), mode="bicubic", antialias=True).clamp(-1, 1)


def mean(values: Sequence[float] | Tensor) -> float:
    return torch.as_tensor(values, dtype=torch.float64).mean().item()
