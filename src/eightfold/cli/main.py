"""The command line: one function a verb. Importing this imports neither torch nor pydantic; a verb loads what it needs when it runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cyclopts import App

VERBS = {  # name -> what `eightfold --help` says of it: the first line of the function's docstring
    "generate": "Pictures from text: each PROMPT is one prompt.",
    "encode": "Pictures to latent files, NAME.latent.safetensors.",
    "decode": "Latent files to pictures of the size that was encoded.",
    "roundtrip": "Pictures through latent space and back: the original beside what returned, with PSNR and SSIM.",
    "noise": "A picture with noise mixed into its latent, decoded: a strip of several times.",
    "walk": "From one picture or prompt to another, as an animation: through latent space on the left, pixel cross-fade on the right.",
    "train": "Train an autoencoder or a denoiser from a configuration file.",
    "info": "What is in an image, a latent file or a weight file, without decoding or loading it.",
}


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0 done, 1 a bug, 2 bad input or usage, 3 some of many failed, 130 cancelled."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments in ([], ["--help"], ["-h"]):
        print(to_help())
        return 0
    if arguments == ["--version"]:
        from ..core.versions import read_versions

        print(read_versions()["eightfold"])
        return 0
    return run_verb(arguments)


def run_verb(arguments: list[str]) -> int:
    from cyclopts import CycloptsError

    from ..core.errors import EightfoldError
    from .console import CANCELLED, is_memory, report_bug, report_cancel, report_error, report_memory, report_usage

    try:
        code = build_app()(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        return code if isinstance(code, int) else 0
    except CycloptsError as error:
        return report_usage(error)
    except EightfoldError as error:
        return report_error(error)
    except KeyboardInterrupt:
        return report_cancel()
    except BrokenPipeError:
        return CANCELLED
    except Exception as error:
        return report_memory() if is_memory(error) else report_bug()


def build_app() -> App:
    """The verbs with their options."""
    from cyclopts import App

    from . import generate, info, noise, train, transcode, walk

    app = App(name="eightfold", help_format="plaintext", version_flags=[])
    for verb in (generate.generate, transcode.encode, transcode.decode, transcode.roundtrip, noise.noise, walk.walk, info.info):
        app.command(verb, name=verb.__name__)
    app.command(train.app)
    return app


def to_help() -> str:
    """Written without the parser of the verbs, which takes longer to import than all else."""
    from shutil import get_terminal_size
    from textwrap import wrap

    from .. import __doc__ as about

    left = max(len(name) for name in VERBS) + 4
    width = max(min(get_terminal_size().columns, 100), 40)
    lines = ["Usage: eightfold COMMAND ...", "", (about or "").split("\n\n")[0], "", "Commands:"]
    for name, summary in VERBS.items():
        lines += wrap(summary, width, initial_indent=f"  {name}".ljust(left), subsequent_indent=" " * left)
    return "\n".join([*lines, "", "`eightfold COMMAND --help` lists its options, `eightfold --version` prints the version."])


def main() -> None:
    code = run()
    try:
        sys.stdout.flush()
    except OSError as error:  # the reader of a pipe is gone, or the disk is full
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python tries again at exit, and complains
        if not isinstance(error, BrokenPipeError):
            sys.stderr.write(f"error: cannot write to standard output: {error.strerror}. Hint: check the space left\n")
            code = code or 2
    sys.exit(code)
