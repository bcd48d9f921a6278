"""eightfold identify: whose weights a file holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ..core.errors import RequestError
from .console import Outcome, show_loading
from .options import Flag

if TYPE_CHECKING:
    from ..checkpoints.identity import Identity
    from ..pipelines.twins import Verdict


def identify(
    *file: Path,
    measure: Flag = False,
    picture: Annotated[tuple[Path, ...], Parameter(negative="", show_default=False)] = (),
    remember: str | None = None,
    json: Flag = False,
) -> int:
    """Whose weights these are: family, latent space, component, variant and layout, from names and shapes alone.

    Parameters
    ----------
    file
        Weight files of any format, latent files, or folders in diffusers' layout.
    measure
        Encode pictures with an autoencoder that fits several spaces, and tell by the spread of its latents which one it is of.
    picture
        For --measure: a picture beside those of the package; may be given more than once.
    remember
        A name for the file's autoencoder: it is known again by it, in any dtype.
    json
        Print one record a component as JSON.
    """
    from ..checkpoints.identity import identify_file

    check(file, measure=measure, pictures=picture, name=remember)
    outcome = Outcome()
    for path in file:
        with outcome.attempt(str(path)):
            for number, identity in enumerate(identify_file(path)):
                record: dict[str, Any] = {"source": str(path), **asdict(identity)}
                lines = [*([] if number else [str(path)]), *to_lines(identity)]
                if identity.component == "autoencoder":
                    lines += [f"    {line}" for line in study(path, identity, record, measure=measure, pictures=picture, name=remember)]
                outcome.add(record, "\n".join(lines), as_json=json)
    return outcome.finish(as_json=json)


def check(files: Sequence[Path], *, measure: bool, pictures: Sequence[Path], name: str | None) -> None:
    if not files:
        raise RequestError("no file given", hint="eightfold identify model.safetensors")
    if pictures and not measure:
        raise RequestError("--picture is for --measure", hint="add --measure")
    if name is not None and (len(files) > 1 or not name.strip()):
        raise RequestError("--remember gives one file a name", hint="eightfold identify vae.safetensors --remember NAME")


def study(
    path: Path, identity: Identity, record: dict[str, Any], *, measure: bool, pictures: Sequence[Path], name: str | None
) -> list[str]:
    """What goes beyond the header, added to the record: the name that it is remembered by, and what measuring says."""
    lines = name_it(path, identity, record, asked=name is not None)
    if name is not None:
        from ..pipelines.remembered import remember_autoencoder

        lines.append(f"kept as {name} in {remember_autoencoder(path, identity, name)}")
        record["remembered"] = name
    if measure and not identity.ties:
        lines.append("nothing to measure: its tensors fit one space only")
    elif measure:
        with show_loading(str(path)):
            from ..pipelines.twins import measure_file

            verdict = measure_file(path, identity, pictures)
        record["measured"] = asdict(verdict)
        lines += describe_verdict(verdict)
    return lines


def name_it(path: Path, identity: Identity, record: dict[str, Any], *, asked: bool = False) -> list[str]:
    """The name that an autoencoder has, added to the record; weights are read only where one of that size has a name."""
    from ..checkpoints.known import has_alike
    from ..checkpoints.published import find_published

    if not asked and not has_alike(identity.parameters):  # the name of a published one is found without torch
        found = find_published(path, identity)
        return [] if found is None else show_name(record, identity, found.name, found.by, found.space)
    with show_loading(str(path)):
        from ..pipelines.remembered import find_name

        sighting = find_name(path, identity)
    return [] if sighting is None else show_name(record, identity, *sighting)


def show_name(record: dict[str, Any], identity: Identity, name: str, by: str, space: str) -> list[str]:
    """`space` is empty for one that the user named."""
    record |= {"name": name, "known_by": by}
    behind = f", of space {space}" if space and space != identity.space else ""
    return [f"{'published' if space else 'remembered'} as {name}, by {by}{behind}"]


def describe_verdict(verdict: Verdict) -> list[str]:
    """What was measured of each space, and the answer with its margin."""
    mean, std = (" ".join(f"{one:.2f}" for one in values[:8]) for values in (verdict.mean, verdict.std))
    more = " ..." if len(verdict.std) > 8 else ""
    lines = [f"raw latents of {verdict.pictures} pictures, by channel: mean {mean}{more}, deviation {std}{more}"]
    usual = "times what the pictures' contrast makes usual"
    lines += [f"as {one.space}: deviation {one.std:.2f}, {one.spread:.2f} {usual}" for one in verdict.measured]
    margin = f"margin {verdict.margin:.2f}, at least {verdict.least:.2f} is needed"
    return [*lines, f"verdict: {verdict.space or 'cannot tell'} ({margin})"]


def to_lines(identity: Identity) -> list[str]:
    """A component in a line, and below it what it was known by."""
    lines = [f"  {identity.component}: {describe(identity)}"]
    if identity.evidence:
        lines.append(f"    seen: {'; '.join(identity.evidence)}")
    if identity.nearest:
        lines.append(f"    nearest: {identity.nearest}, but {'; '.join(identity.why_not)}")
    return lines


def describe(identity: Identity) -> str:
    names = [name for name in (identity.family, identity.variant) if name and name != "base"]
    facts = [" ".join(names)] if names else []
    if identity.tower:
        facts.append(f"text tower {identity.tower}")
    if identity.ties:
        facts.append(f"{' or '.join(identity.ties)}: the tensors fit {'both' if len(identity.ties) == 2 else 'all of them'}")
    if identity.space:
        facts.append(f"space {identity.space}")
    if not facts:
        facts.append("not known" if identity.nearest or identity.component == "unknown" else "not identified")
    if identity.latent_channels:
        facts.append(f"{identity.latent_channels} channels at 1/{identity.downscale}")
    if identity.layout in ("diffusers", "original"):
        facts.append(f"{identity.layout} layout")
    return ", ".join([*facts, identity.dtype, f"{identity.parameters:,} numbers"])
