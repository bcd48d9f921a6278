"""The command line: one function a verb. Importing this imports neither torch nor pydantic; a verb loads what it needs when it runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from .. import __doc__ as about
from ..core.versions import read_versions
from . import generate, info, noise, train, transcode, walk
from .console import report_bug, report_cancel, report_error, report_usage

app = App(
    name="eightfold",
    help=(about or "").split("\n\n")[0],
    version=lambda: read_versions()["eightfold"],
    help_format="plaintext",
)
app.command(generate.generate, name="generate")
app.command(transcode.encode, name="encode")
app.command(transcode.decode, name="decode")
app.command(transcode.roundtrip, name="roundtrip")
app.command(noise.noise, name="noise")
app.command(walk.walk, name="walk")
app.command(train.app)
app.command(info.info, name="info")


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0 done, 1 a bug, 2 bad input or usage, 3 some of many failed, 130 cancelled."""
    from ..core.errors import EightfoldError

    try:
        code = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        return code if isinstance(code, int) else 0
    except CycloptsError as error:
        return report_usage(error)
    except EightfoldError as error:
        return report_error(error)
    except KeyboardInterrupt:
        return report_cancel()
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except Exception:
        return report_bug()


def main() -> None:
    sys.exit(run())
