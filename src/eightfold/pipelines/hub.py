"""Models by their names on a hub of huggingface_hub: fetched once, then found in its cache. Only where such a name is given."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from ..checkpoints.folder import CONFIG, SCHEDULER, STEMS, SUFFIXES, WHOLE
from ..checkpoints.known import read_table, write_table
from ..core.errors import CheckpointError, EightfoldError, OutputError, RequestError

NAME = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*)(?:/(.+))?")
TABLE = "hub.json"  # which files were fetched of each repository: without it the hub's cache takes the rest for missing
SHOWN = 5  # files that a message names


def is_hub_name(name: str) -> bool:
    """Whether it is like "owner/name" or "owner/name/file": what is there on the disk goes first, and is not looked at here."""
    match = NAME.fullmatch(name)
    return match is not None and (match[2] is not None or not name.endswith(SUFFIXES))  # a file in a folder that is not there


def find_model(name: str, *, offline: bool = False) -> Path:
    """The file or folder of that name in the hub's cache, fetched first unless `offline`. Raises CheckpointError, RequestError."""
    match = NAME.fullmatch(name)
    assert match is not None
    repo, file = match[1], match[2]
    try:
        hub: Any = import_module("huggingface_hub")  # whose functions are typed by more than a type checker can follow
        from huggingface_hub.errors import LocalEntryNotFoundError
    except ImportError:
        raise CheckpointError(f"{name} is not on this disk", hint="pip install huggingface_hub fetches models by such names") from None
    try:
        if file is not None:
            return Path(hub.hf_hub_download(repo, file, local_files_only=offline))
        if offline:
            return to_source(Path(hub.snapshot_download(repo, allow_patterns=read_table(TABLE).get(repo), local_files_only=True)))
        files = choose_files(repo, hub.list_repo_files(repo))
        snapshot = Path(hub.snapshot_download(repo, allow_patterns=files))
        with suppress(OutputError):  # then it is not found offline by this name alone
            write_table(TABLE, {**read_table(TABLE), repo: files})
        return to_source(snapshot)
    except LocalEntryNotFoundError:
        why = "offline, and it was never fetched" if offline else "the hub does not answer, and it was never fetched"
        raise CheckpointError(f"{name}: {why}", hint="name a file on this disk, or fetch it once without --offline") from None
    except EightfoldError:
        raise
    except Exception as error:  # of several libraries, none of which promises its errors
        why = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{name} cannot be fetched: {why}", hint="check the name; some models ask for a login first") from None


def choose_files(repo: str, files: Iterable[str]) -> list[str]:
    """Of a repository's files those that a picture needs: a folder in diffusers' layout, or the one weight file."""
    files = sorted(files)
    if WHOLE not in files:
        return [choose_weights(repo, [name for name in files if "/" not in name])]
    folders = sorted({name.partition("/")[0] for name in files if name.count("/") == 1})
    chosen = [WHOLE]
    for folder in folders:
        inside = [name for name in files if name.startswith(f"{folder}/")]
        chosen += [name for name in inside if name in (f"{folder}/{CONFIG}", SCHEDULER)]
        chosen += list_weights(inside, ".safetensors") or list_weights(inside, ".bin")
    return chosen


def list_weights(names: list[str], suffix: str) -> list[str]:
    """In whole precision, all shards and their index; none where there are only variants."""
    plain = re.compile(rf"[^/]+/(?:{'|'.join(STEMS)})(?:-\d+-of-\d+)?{re.escape(suffix)}(?:\.index\.json)?")
    return [name for name in names if plain.fullmatch(name)]


def choose_weights(repo: str, names: list[str]) -> str:
    found = [name for name in names if name.endswith(".safetensors")]
    if len(found) == 1:
        return found[0]
    if not found:
        raise CheckpointError(f"{repo} has no safetensors file and no {WHOLE}", hint=f"name a file in it: {repo}/FILE")
    some = ", ".join(found[:SHOWN]) + (", ..." if len(found) > SHOWN else "")
    raise RequestError(f"{repo} has {len(found)} weight files: {some}", hint=f"name one of them: {repo}/{found[0]}")


def to_source(snapshot: Path) -> Path:
    """The folder itself where it is a whole model's, else the one file in it."""
    return snapshot if (snapshot / WHOLE).exists() else snapshot / choose_weights(snapshot.name, [one.name for one in snapshot.iterdir()])
