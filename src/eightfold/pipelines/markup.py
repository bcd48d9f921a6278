"""Foreign text inside HTML and SVG."""

from __future__ import annotations

from html import escape


def to_html(text: str) -> str:
    """For text and attributes; signs that cannot be seen, and halves of broken file names, are spelled out."""
    return escape("".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text))
