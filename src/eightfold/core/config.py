"""TOML files into frozen dataclasses, with messages a person can act on."""

from __future__ import annotations

import json
import tomllib
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, cast, get_type_hints

from .errors import ConfigError, EightfoldError

T = TypeVar("T")


def read_toml(path: str | Path, kind: type[T]) -> T:
    """Read `path` and check it against the dataclass `kind`: unknown, missing and mistyped settings are errors that name the setting."""
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    try:
        with open(path, "rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint="the argument is a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}", hint="a setting is a line `name = value`, a text is quoted") from None
    exact = type(f"Strict{kind.__name__}", (kind,), {"__pydantic_config__": ConfigDict(extra="forbid", strict=True)})
    try:
        text = json.dumps(table, default=str)  # from JSON, the strict mode takes a list for a tuple but no text for a number
        TypeAdapter(exact).validate_json(text)
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"{path}: {where or 'file'}: {first['msg'].lower()}", hint=f"settings: {', '.join(find_settings(kind, first['loc']))}"
        ) from None
    except EightfoldError as error:
        raise ConfigError(f"{path}: {error}", hint=error.hint) from None
    except (ValueError, TypeError) as error:  # what a dataclass says of its own values
        raise ConfigError(f"{path}: {error}", hint=f"settings: {', '.join(find_settings(kind))}") from None


def find_settings(kind: type[Any], where: tuple[int | str, ...] = ()) -> list[str]:
    """The names of the settings of `kind`, or of the table inside it that `where` leads into."""
    types = get_type_hints(kind)
    if len(where) > 1 and is_dataclass(inner := types.get(str(where[0]))):
        return find_settings(cast(type[Any], inner), where[1:])
    return [field.name for field in fields(kind)]
