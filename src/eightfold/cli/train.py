"""eightfold train: the two stages of a latent diffusion model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cyclopts import App, Parameter

from ..core.progress import Progress
from .console import DONE, say, say_json, show_progress
from .options import Flag, refuse_folder

app = App(name="train", help="Train an autoencoder or a denoiser from a configuration file.")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Folder:
    """Where a run lives.

    Parameters
    ----------
    out
        The run's folder: pictures, latents, checkpoints, log and result. By default runs/NAME-OF-CONFIG.
    resume
        Go on from the last checkpoint, or start where there is none; the numbers are those of a run that was never interrupted.
    json
        Print the last figures as JSON.
    """

    out: Path | None = None
    resume: Flag = False
    json: Flag = False

    def to_result(self, config: Path, name: str) -> Path:
        """Where the run's weights will be; refuses a place that cannot be written."""
        result = (self.out or Path("runs") / config.stem) / name
        refuse_folder(result)
        return result


@app.command
def autoencoder(config: Path, /, *, folder: Folder = Folder()) -> int:
    """Train an autoencoder on rendered scenes and textures, on the CPU; writes autoencoder.safetensors.

    Parameters
    ----------
    config
        A TOML file such as configs/pocket-autoencoder.toml.
    """
    from ..core.config import read_toml
    from ..training.autoencoder import WEIGHTS, train_autoencoder
    from ..training.config import AutoencoderConfig

    result = folder.to_result(config, WEIGHTS)
    return follow(train_autoencoder(read_toml(config, AutoencoderConfig), result.parent, resume=folder.resume), result, as_json=folder.json)


@app.command
def denoiser(config: Path, /, *, folder: Folder = Folder()) -> int:
    """Train a denoiser and its text encoder on cached latents, on the CPU; writes model.safetensors, a whole model in one file.

    Parameters
    ----------
    config
        A TOML file such as configs/pocket-denoiser.toml.
    """
    from ..core.config import read_toml
    from ..training.config import DenoiserConfig
    from ..training.denoiser import WEIGHTS, train_denoiser

    result = folder.to_result(config, WEIGHTS)
    return follow(train_denoiser(read_toml(config, DenoiserConfig), result.parent, resume=folder.resume), result, as_json=folder.json)


def follow(run: Iterator[Progress], result: Path, *, as_json: bool) -> int:
    last: Progress | None = None
    with show_progress() as update:
        for progress in run:
            update(progress)
            last = progress if progress.task == "training" else last
    figures = last.figures if last else {}
    if as_json:
        say_json({"path": str(result), "steps": last.number if last else 0, **figures})
    else:
        say(f"{result}  " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items()))
    return DONE
