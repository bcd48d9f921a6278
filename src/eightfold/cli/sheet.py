"""eightfold sheet: one prompt with several values of one or two fields."""

from __future__ import annotations

import json
from dataclasses import replace

from ..core.errors import RequestError
from ..core.progress import Progress
from ..core.versions import read_versions
from .console import Outcome, show_loading, show_progress, show_warnings
from .options import Choice, Output, to_placement, to_slug
from .sampling import Beginning, Beside, Sampling


def sheet(
    prompt: str,
    /,
    *,
    across: str,
    down: str | None = None,
    sampling: Sampling = Sampling(),
    beginning: Beginning = Beginning(),
    beside: Beside = Beside(),
    choice: Choice = Choice(),
    output: Output = Output(),
) -> int:
    """One prompt with several values of one field of the request, or of two, as one labelled sheet.

    Parameters
    ----------
    prompt
        What to show.
    across
        FIELD=VALUE,VALUE from left to right, such as steps=5,10,20; with | between values that have commas in them.
    down
        The same from top to bottom.
    """
    if sampling.count not in (None, 1):
        raise RequestError(f"--count {sampling.count}: a sheet has one picture a cell", hint='--across "seed=1,2,3" draws several')
    (path,) = output.to_paths([f"{to_slug(prompt)}-sheet.png"])
    base = sampling.to_request(prompt, beginning)
    with show_loading(choice.model):
        from ..codec.pixels import Picture
        from ..pipelines.contact import draw_contact, list_requests, to_axis

        columns, rows = to_axis(across), None if down is None else to_axis(down)
        cells = list_requests(base, columns, rows)
        model = choice.load(beside.to_extras())
        show_warnings(model.warnings)
    outcome = Outcome()
    with show_progress() as update, outcome.attempt("sheet"):
        done = 0
        for one in draw_contact(model, cells, len(columns.values)):
            if isinstance(one, Picture):
                record = {"sheet": prompt, "across": across, "down": down, "cells": [label for label, _ in cells]}
                record |= {"model": model.family.name, "fingerprint": model.fingerprint, **read_versions()}
                metadata = {"eightfold": json.dumps(record, ensure_ascii=False)}
                replace(one, metadata=metadata).save(path, overwrite=output.overwrite)
                result = {"prompt": prompt, "path": str(path), "cells": record["cells"], **to_placement(model.placement)}
                outcome.add(result, str(path), as_json=output.json)
            else:
                done += one.is_last
                update(Progress(task="sheet", number=done, total=len(cells)))
    return outcome.finish(as_json=output.json, reason=model.placement.reason)
