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
    "generate": "Pictures from text, and from other pictures: each PROMPT is one prompt.",
    "sheet": "One prompt with several values of one field of the request, or of two, as one labelled sheet.",
    "encode": "Pictures to latent files, NAME.latent.safetensors.",
    "decode": "Latent files to pictures of the size that was encoded.",
    "roundtrip": "Pictures through latent space and back: the original beside what returned, with PSNR, SSIM and FLIP.",
    "enlarge": "Pictures made larger by a network of the user's, such as ESRGAN: each as a picture NAME.large.png.",
    "noise": "A picture with noise mixed into its latent, decoded: a strip of several times.",
    "walk": "From one picture or prompt to another, as an animation: through latent space on the left, pixel cross-fade on the right.",
    "train": "Train an autoencoder or a denoiser from a configuration file.",
    "evaluate": "Measure how good a model is.",
    "identify": "Whose weights these are: family, latent space, component, variant and layout, from names and shapes alone.",
    "models": "What weight files a folder holds, and which autoencoders go with which models.",
    "match": "Whether two files belong together, autoencoders, models or latents: by fingerprint, by their spaces, then by trying.",
    "convert": "Weights of any known format as one safetensors file: renamed to another layout, cast, or one component of several.",
    "info": "What is in an image, a latent file or a weight file, without decoding or loading it.",
}


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0 done, 1 a bug, 2 bad input or usage, 3 some of many failed, 130 cancelled."""
    from .console import report, report_cancel

    try:
        return dispatch(sys.argv[1:] if arguments is None else list(arguments))
    except KeyboardInterrupt:
        return report_cancel()
    except Exception as error:
        return report(error)


def dispatch(arguments: list[str]) -> int:
    """Help and version are answered here: the parser of the verbs takes longer to import than all else."""
    from .console import say

    if arguments in ([], ["--help"], ["-h"]):
        say(to_help())
        return 0
    if arguments == ["--version"]:
        from ..core.versions import read_versions

        say(read_versions()["eightfold"])
        return 0
    code = build_app()(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    return code if isinstance(code, int) else 0


def build_app() -> App:
    """The verbs with their options."""
    from cyclopts import App

    from . import convert, enlarge, evaluate, generate, identify, info, match, models, noise, roundtrip, sheet, train, transcode, walk

    app = App(name="eightfold", help_format="plaintext", version_flags=[], suppress_keyboard_interrupt=False)
    for verb in (
        generate.generate,
        sheet.sheet,
        transcode.encode,
        transcode.decode,
        roundtrip.roundtrip,
        enlarge.enlarge,
        noise.noise,
        walk.walk,
        identify.identify,
        models.models,
        match.match,
        convert.convert,
        info.info,
    ):
        app.command(verb, name=verb.__name__)
    app.command(train.app)
    app.command(evaluate.app)
    return app


def to_help() -> str:
    """What `eightfold --help` prints."""
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
    except OSError:  # which has been reported; without this Python would try again at exit, and complain
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)
