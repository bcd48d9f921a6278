"""Several pictures on one: contact sheets and film strips, with a line of text under each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

MARGIN = 6
LINE = 14  # pixels of a line of text
PAPER, INK = (255, 255, 255), (40, 40, 40)


def to_sheet(images: Sequence[Float[Tensor, "1 3 h w"]], *, columns: int, labels: Sequence[str] = ()) -> Float[Tensor, "1 3 h2 w2"]:
    """Pictures in rows of `columns` on white, left to right; the cells are as large as the largest picture. Long labels are wrapped."""
    from PIL import Image, ImageDraw, ImageFont

    from ..codec.pixels import to_image, to_pil

    font = ImageFont.load_default(size=11)
    width, height = (max(image.shape[axis] for image in images) for axis in (-1, -2))
    wrapped = [wrap(label, width, font.getlength) for label in labels]
    text = LINE * max((len(lines) for lines in wrapped), default=0)
    rows = -(-len(images) // columns)
    across = min(columns, len(images))
    sheet = Image.new("RGB", (across * (width + MARGIN) + MARGIN, rows * (height + text + MARGIN) + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        left, top = MARGIN + column * (width + MARGIN), MARGIN + row * (height + text + MARGIN)
        sheet.paste(to_pil(image), (left, top))
        for line, words in enumerate(wrapped[index] if index < len(wrapped) else ()):
            draw.text((left, top + height + 1 + line * LINE), words, fill=INK, font=font)
    return to_image(sheet)


def wrap(text: str, width: int, measure: Callable[[str], float]) -> list[str]:
    """Break at blanks so that every line is at most `width` pixels wide, as far as its longest word allows."""
    lines: list[str] = []
    for word in text.split():
        if lines and measure(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def to_row(images: Sequence[Float[Tensor, "1 3 h w"]]) -> Float[Tensor, "1 3 h w2"]:
    """Pictures of one height side by side."""
    return torch.cat(list(images), dim=-1)
