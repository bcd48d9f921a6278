"""Texts in EXIF, which JPEG and WebP have in place of a PNG's: ours, and where other programs put theirs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

EXIF_FOLDER, USER_COMMENT, HISTORY = 0x8769, 0x9286, 0x9213
CAPTIONS = (0x010E, 0x010F, 0x0110)  # description, make and model, where ComfyUI puts "prompt:..." and "workflow:..." into a WebP
COMFY = ("prompt", "workflow")
ASCII, UNICODE = b"ASCII\0\0\0", b"UNICODE\0"  # how EXIF marks the encoding of a comment
ROOM = 65_000  # bytes of EXIF in a JPEG, nearly
PARAMETERS = "parameters"  # the text that A1111 writes, and every program of its kind reads


def to_exif(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Options for Pillow.

    The comment holds the text `parameters`, in UTF-16 as A1111 has it, and the field ImageHistory the others as JSON; without that text, or
    where a JPEG has no room for both, the JSON is the comment.
    """
    from PIL import Image

    if not metadata:
        return {}
    exif = Image.Exif()
    folder = exif.get_ifd(EXIF_FOLDER)
    others = json.dumps({name: text for name, text in metadata.items() if name != PARAMETERS})
    comment = metadata.get(PARAMETERS, "").encode("utf-16-be", "replace")
    if comment and len(comment) + len(others) < ROOM:
        folder[USER_COMMENT] = UNICODE + comment
        folder[HISTORY] = others
    else:
        folder[USER_COMMENT] = ASCII + others.encode("ascii")
    return {"exif": exif}


def from_exif(image: Image.Image) -> dict[str, str]:
    """Texts by name; nothing of what is not known for one of a program that makes pictures."""
    exif = image.getexif()
    folder = exif.get_ifd(EXIF_FOLDER)
    texts: dict[str, str] = {}
    for tag in CAPTIONS:
        name, _, text = str(exif.get(tag, "")).partition(":")
        if name.lower() in COMFY:
            texts.setdefault(name.lower(), text.rstrip("\0"))
    raw, history = folder.get(USER_COMMENT, b""), folder.get(HISTORY, "")
    comment = to_comment(raw) if isinstance(raw, bytes) else str(raw)
    table = to_texts(comment)
    if table:
        return texts | table
    if comment.strip(" \0") and ((isinstance(raw, bytes) and raw.startswith(UNICODE)) or "Steps: " in comment):
        texts[PARAMETERS] = comment
    return texts | to_texts(history if isinstance(history, bytes | str) else b"")


def to_comment(raw: bytes) -> str:
    """An EXIF comment as text, in the encoding it says, or the likeliest. Half of the bytes of Latin letters in UTF-16 are zero."""
    if raw.startswith(UNICODE):
        body = raw.removeprefix(UNICODE)
        if body[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return body.decode("utf-16", "replace")
        little = body[1::2].count(0) > body[::2].count(0)
        return body.decode("utf-16-le" if little else "utf-16-be", "replace")
    return raw.removeprefix(ASCII).removeprefix(bytes(8)).decode("utf-8", "replace").rstrip("\0")


def to_texts(comment: bytes | str) -> dict[str, str]:
    """Our JSON back to texts; somebody else's comment is none of ours."""
    try:
        table = json.loads(comment)
    except (ValueError, RecursionError):
        return {}
    return {key: value for key, value in table.items() if isinstance(value, str)} if isinstance(table, dict) else {}
