"""What the command line shows: progress bars, result lines, errors. Results go to standard output, all else to standard error."""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from ..core.errors import EightfoldError
from ..core.progress import Progress

T = TypeVar("T")

DONE, BUG, BAD, PARTLY, CANCELLED = 0, 1, 2, 3, 130
PLAIN_EVERY = 15.0  # seconds between progress lines where standard error is no terminal


def say(text: str) -> None:
    sys.stdout.write(text + "\n")


def warn(text: str) -> None:
    sys.stderr.write(text + "\n")


def say_json(result: Any) -> None:
    say(json.dumps(result, ensure_ascii=False, allow_nan=False))


def to_line(error: EightfoldError) -> str:
    return f"error: {error}" + (f". Hint: {error.hint}" if error.hint else "")


def report_error(error: EightfoldError) -> int:
    warn(" ".join(to_line(error).split()))
    return BAD


def report_usage(error: Exception) -> int:
    text = " ".join(str(error).split())
    warn(f"error: {text} Hint: `eightfold --help` lists the commands, `eightfold COMMAND --help` its options")
    return BAD


def report_cancel() -> int:
    warn("cancelled; what was finished is kept")
    return CANCELLED


def report_bug() -> int:
    traceback.print_exc()
    warn("error: this is a bug in eightfold. Hint: report it with the lines above")
    return BUG


@contextmanager
def show_progress() -> Iterator[Any]:
    """A function to call with each Progress: bars on a terminal once a second has passed, otherwise a line now and then."""
    if sys.stderr.isatty():
        with Bars() as bars:
            yield bars.update
    else:
        yield Lines().update


class Bars:
    """One bar a task, with what is left and the latest figures."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self.rich = RichProgress(*columns, TextColumn("{task.fields[figures]}"), console=Console(stderr=True), transient=True)
        self.tasks: dict[str, Any] = {}
        self.begin = time.monotonic()
        self.shown = False

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *_: object) -> None:
        if self.shown:
            self.rich.stop()

    def update(self, progress: Progress) -> None:
        if not self.shown and time.monotonic() - self.begin > 1:
            self.rich.start()
            self.shown = True
        if progress.task not in self.tasks:
            self.tasks[progress.task] = self.rich.add_task(progress.task, total=progress.total, figures="")
        self.rich.update(self.tasks[progress.task], completed=progress.number, total=progress.total, figures=to_figures(progress))


class Lines:
    """A line every `PLAIN_EVERY` seconds, for logs."""

    def __init__(self) -> None:
        self.begin = self.last = time.monotonic()

    def update(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self.last < PLAIN_EVERY:
            return
        self.last = now
        left = (now - self.begin) / max(progress.number, 1) * (progress.total - progress.number)
        warn(f"{progress.task} {progress.number}/{progress.total}, about {left:.0f} s left {to_figures(progress)}".rstrip())


def to_figures(progress: Progress) -> str:
    return " ".join(f"{name} {value:.4g}" for name, value in progress.figures.items() if name in ("loss", "l1", "kl", "rate"))


def track(task: str, items: Iterable[T], total: int) -> Iterator[T]:
    """The items, with progress shown."""
    with show_progress() as update:
        for number, item in enumerate(items, 1):
            update(Progress(task=task, number=number, total=total))
            yield item


class Outcome:
    """Several inputs, one after the other: a bad one is reported and the rest goes on."""

    def __init__(self) -> None:
        self.results: list[dict[str, Any]] = []
        self.failed = 0

    @contextmanager
    def attempt(self, source: str) -> Iterator[None]:
        try:
            yield
        except EightfoldError as error:
            report_error(error)
            self.failed += 1
            self.results.append({"source": source, "error": str(error), "hint": error.hint})

    def add(self, result: dict[str, Any], line: str, *, as_json: bool) -> None:
        self.results.append(result)
        if not as_json:
            say(line)

    def finish(self, *, as_json: bool) -> int:
        if as_json:
            say_json(self.results)
        if not self.failed:
            return DONE
        return BAD if self.failed == len(self.results) else PARTLY
