"""What the command line shows: progress bars, result lines, errors. Results go to standard output, all else to standard error."""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Lock, Timer
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from ..core.errors import EightfoldError, OutputError
from ..core.progress import Progress

if TYPE_CHECKING:
    from ..codec.engine import Engine

T = TypeVar("T")

DONE, BUG, BAD, PARTLY, CANCELLED = 0, 1, 2, 3, 130
BARS_AFTER = 1.0  # seconds until bars appear
PLAIN_EVERY = 15.0  # seconds between progress lines where standard error is no terminal
SHOWN = ("loss", "l1", "kl", "rate", "images/s")  # of the figures of a task
BREAKS = "\n\t"
MEMORY = "error: there is not enough memory for this. Hint: a smaller --size, fewer or smaller pictures, or --dtype bfloat16"
NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


def say(text: str) -> None:
    write(sys.stdout, text)


def warn(text: str) -> None:
    write(sys.stderr, text)


def show_warnings(warnings: Iterable[str], source: str = "") -> None:
    """A line each, on standard error."""
    for warning in warnings:
        warn(f"warning: {source}: {warning}" if source else f"warning: {warning}")


def show_notes(*engines: Engine) -> None:
    """What was done the slow way and why, each once, on standard error."""
    for note in dict.fromkeys(note for engine in engines for note in engine.notes):
        warn(f"note: {note}")


def write(stream: TextIO, text: str) -> None:
    """A line at once, above any bars. Control characters from file names and metadata are spelled out: a terminal would obey them."""
    line = "".join(sign if sign.isprintable() or sign in BREAKS else ascii(sign)[1:-1] for sign in text)
    for bars in SHOWING if stream.isatty() else ():
        bars.rich.console.print(line, soft_wrap=True, markup=False, highlight=False)
        return
    try:
        stream.write(line + "\n")
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        if stream is sys.stdout:
            raise OutputError(f"cannot write to standard output: {error.strerror}", hint="check the space left") from error


def say_json(result: Any) -> None:
    say(json.dumps(result, allow_nan=False))


def ask(question: str) -> bool:
    """Yes or no, from whoever sits at the terminal; no where nobody does."""
    if not sys.stdin.isatty() or not sys.stderr.isatty():
        return False
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def report(error: Exception) -> int:
    """One line for what the user can mend, a traceback for a bug; the exit code."""
    if isinstance(error, EightfoldError):
        return report_error(error)
    if isinstance(error, BrokenPipeError):  # whoever read our output has gone
        return CANCELLED
    if is_memory(error):
        return report_memory()
    from cyclopts import CycloptsError

    return report_usage(error) if isinstance(error, CycloptsError) else report_bug(error)


def to_line(error: EightfoldError) -> str:
    return " ".join((f"error: {error}" + (f". Hint: {error.hint}" if error.hint else "")).split())


def report_error(error: EightfoldError) -> int:
    warn(to_line(error))
    return BAD


def report_usage(error: Any) -> int:
    """`error` is cyclopts', which knows in which command it arose."""
    text = " ".join(str(error).split())
    command = " ".join(["eightfold", *(error.command_chain or ()), "--help"])
    warn(f"error: {text if text.endswith(('.', '?')) else text + '.'} Hint: `{command}` shows how it is called")
    return BAD


def report_cancel() -> int:
    warn("cancelled; what was finished is kept")
    return CANCELLED


def report_memory() -> int:
    warn(MEMORY)
    return BAD


def is_memory(error: Exception) -> bool:
    """Python's MemoryError, or what torch says instead."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY))


def report_bug(error: Exception) -> int:
    traceback.print_exception(error)
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


@contextmanager
def show_loading(name: str) -> Iterator[None]:
    """For the seconds in which a model and its libraries are loaded."""
    with show_progress() as update:
        update(Progress(task=f"loading {name}", number=0, total=1))
        yield


class Bars:
    """One bar a task, with what is left and the latest figures; finished tasks make room for the next."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        figures = TextColumn("{task.fields[figures]}")
        # rich would send standard output through the bars' own stream, and a file behind it would get nothing
        self.rich = RichProgress(
            *columns, figures, console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self.tasks: dict[str, Any] = {}
        self.lock = Lock()
        self.timer = Timer(BARS_AFTER, self.show)
        self.timer.daemon = True
        self.done = False

    def __enter__(self) -> Bars:
        self.timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.timer.cancel()
        with self.lock:
            self.done = True
            if self in SHOWING:
                SHOWING.remove(self)
                self.rich.stop()

    def show(self) -> None:
        with self.lock:
            if not self.done:
                self.rich.start()
                SHOWING.append(self)

    def update(self, progress: Progress) -> None:
        if progress.task not in self.tasks:
            for name in list(self.tasks):
                self.rich.remove_task(self.tasks.pop(name))
            self.tasks[progress.task] = self.rich.add_task(progress.task, total=progress.total, figures="")
        self.rich.update(self.tasks[progress.task], completed=progress.number, total=progress.total, figures=to_figures(progress))


SHOWING: list[Bars] = []  # the bars on the terminal, at most one


class Lines:
    """A line every `PLAIN_EVERY` seconds, for logs."""

    def __init__(self) -> None:
        self.task = ""
        self.last = time.monotonic()

    def update(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.task != self.task:  # time left is reckoned from where this task began, which after --resume is not 0
            self.task, self.begin, self.first = progress.task, now, progress.number
        if now - self.last < PLAIN_EVERY or progress.number == self.first:
            return
        self.last = now
        left = (now - self.begin) / (progress.number - self.first) * (progress.total - progress.number)
        warn(f"{progress.task} {progress.number:.10g}/{progress.total}, about {left:.0f} s left {to_figures(progress)}".rstrip())


def to_figures(progress: Progress) -> str:
    return " ".join(f"{name} {value:.4g}" for name, value in progress.figures.items() if name in SHOWN)


def track(task: str, items: Iterable[T], total: int) -> Iterator[T]:
    """The items, with progress shown: an item counts when the next one is asked for."""
    with show_progress() as update:
        update(Progress(task=task, number=0, total=total))
        for number, item in enumerate(items, 1):
            yield item
            update(Progress(task=task, number=number, total=total))


class Outcome:
    """Several inputs, one after the other: a bad one is reported, at once or if `late` at the end, and the rest goes on."""

    def __init__(self, *, late: bool = False) -> None:
        self.results: list[dict[str, Any]] = []
        self.failed = 0
        self.late = late
        self.kept: list[str] = []

    @contextmanager
    def attempt(self, source: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not isinstance(error, EightfoldError) and not is_memory(error):
                raise
            if self.late:
                line = to_line(error) if isinstance(error, EightfoldError) else MEMORY
                self.kept.append(line if source in line else line.replace("error: ", f"error: {source}: ", 1))
            else:
                report(error)
            self.failed += 1
            hint = error.hint if isinstance(error, EightfoldError) else ""
            self.results.append({"source": source, "error": str(error) or type(error).__name__, "hint": hint})

    def add(self, result: dict[str, Any], line: str, *, as_json: bool) -> None:
        self.results.append(result)
        if not as_json:
            say(line)

    def finish(self, *, as_json: bool, reason: str = "") -> int:
        """The exit code. `reason`: where it ran and in which numbers, and why; with JSON each result says so itself."""
        for line in self.kept:
            warn(line)
        if as_json:
            say_json(self.results)
        elif reason and self.failed < len(self.results):
            warn(f"ran on {reason}")
        if not self.failed:
            return DONE
        return BAD if self.failed == len(self.results) else PARTLY
