"""TOML files into frozen dataclasses, with messages a person can act on."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TypeVar

from .errors import ConfigError

T = TypeVar("T")


def read_toml(path: str | Path, kind: type[T]) -> T:
    """Read `path` and check it against the dataclass `kind`: unknown, missing and mistyped fields are errors that name the field."""
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    try:
        with open(path, "rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint="the argument is a TOML file, such as configs/pocket-autoencoder.toml") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}", hint="a setting is a line `name = value`, a text is quoted") from None
    strict = type(f"Strict{kind.__name__}", (kind,), {"__pydantic_config__": ConfigDict(extra="forbid")})
    try:
        TypeAdapter(strict).validate_python(table)
        return TypeAdapter(kind).validate_python(table)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        known = ", ".join(kind.__dataclass_fields__)  # type: ignore[attr-defined]
        raise ConfigError(f"{path}: {where}: {first['msg'].lower()}", hint=f"settings: {known}") from None
