"""The steps in CONTRIBUTING for a new latent space or family, followed in a copy of the package: nothing else has to be changed.

A space, its network, its second layout and a family that draws in it are invented. After the steps the package knows their files, encodes,
decodes and draws with them, and tells them from others.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import eightfold

SRC, TESTS = Path(eightfold.__file__).parent, Path(__file__).parent
GUIDE = TESTS.parent / "CONTRIBUTING.md"
TITLE = "## A new latent space or family"


class Step(NamedTuple):
    """A new file, or text that is put into one: behind `behind`, which is there once."""

    path: str
    text: str
    behind: str = ""


CONFIG = '''

@dataclass(frozen=True, kw_only=True)
class PatchConfig:
    """Squares of `downscale` pixels become one cell each."""

    channels: int
    downscale: int


'''
NETWORK = '''"""Squares of pixels to cells and back."""

from torch import nn

from .posterior import Posterior


class PatchAutoencoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        size = config.downscale
        self.encoder = nn.Conv2d(3, 2 * config.channels, size, stride=size)
        self.decoder = nn.ConvTranspose2d(config.channels, 3, size, stride=size)

    def encode(self, image):
        mean, log_variance = self.encoder(image).chunk(2, dim=1)
        return Posterior(mean, (log_variance / 2).exp())

    def decode(self, raw):
        return self.decoder(raw)
'''
KEYMAP = '''"""Lantern's files: the autoencoder under other names, the denoiser with queries, keys and values in one tensor."""

from ...specs.keymap import Keymap, Row

ATTENTION = "transformer_blocks.{b}.attn1."
LANTERN_VAE = Keymap(name="lantern-vae", rows=(Row("to_cells.", "encoder."), Row("to_pixels.", "decoder.")))
LANTERN_UNET = Keymap(
    name="lantern-unet",
    rows=(
        Row("first.", "conv_in."),
        Row("last.", "conv_out."),
        Row(
            "middle.qkv.",
            (
                "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.",
                "mid_block.attentions.0.transformer_blocks.0.attn1.to_k.",
                "mid_block.attentions.0.transformer_blocks.0.attn1.to_v.",
            ),
        ),
    ),
)
'''
SPACE = """
LANTERN = Space(
    name="lantern",
    autoencoder=PatchConfig(channels=5, downscale=4),
    normalisation=Normalisation(scale=(0.5,), shift=(0.1,)),
    packing=Packing(side=2),
    start_reading="sample",
    marks=(Mark("encoder.weight", (10, 3, 4, 4)), Mark("decoder.weight", (5, 3, 4, 4))),
    keymap=LANTERN_VAE,
)
"""
FAMILY = '''"""Lantern."""

from ..specs.family import Defaults, Edition, Family
from ..specs.mark import Mark
from ..specs.network import UNetConfig, WordsConfig
from ..specs.process import ScaledLinear
from .keymaps.lantern import LANTERN_UNET
from .spaces import LANTERN

LANTERN_FAMILY = Family(
    name="lantern",
    space=LANTERN,
    denoiser=UNetConfig(
        channels=20, out_channels=20, context=12, width=8, multipliers=(1, 2), blocks=1, attention=(0, 1), head_width=8, groups=4
    ),
    text=WordsConfig(words=("a", "red", "lantern"), width=12, layers=1, heads=2, tokens=8),
    process=ScaledLinear(),
    prediction="velocity",
    defaults=Defaults(size=(48, 32), steps=2, sampler="euler", grid="trailing", guidance=2.0),
    marks=(Mark("mid_block.attentions.0.transformer_blocks.0.attn1.to_k.weight"),),
    editions=(
        Edition(name="base", marks=(Mark("conv_in.weight", (None, 20, 3, 3)),)),
        Edition(name="inpaint", marks=(Mark("conv_in.weight", (None, 41, 3, 3)),)),
    ),
    keymap=LANTERN_UNET,
)
'''
STEPS = (
    Step("specs/network.py", CONFIG, "from dataclasses import dataclass\n"),
    Step("specs/network.py", "PatchConfig | ", "AutoencoderConfig = "),
    Step("autoencoders/patch.py", NETWORK),
    Step(
        "autoencoders/build.py",
        "from ..specs.network import PatchConfig\nfrom .patch import PatchAutoencoder\n",
        "from torch import Tensor\n\n",
    ),
    Step("autoencoders/build.py", "    PatchConfig: PatchAutoencoder,\n", "NETWORKS: dict[type, Callable[[Any], Network]] = {\n"),
    Step("families/keymaps/lantern.py", KEYMAP),
    Step("families/keymaps/catalog.py", "from .lantern import LANTERN_UNET, LANTERN_VAE\n", "from .kl import FLUX2_KL, KL\n"),
    Step("families/keymaps/catalog.py", "LANTERN_VAE, ", "AUTOENCODER_KEYMAPS = ("),
    Step("families/keymaps/catalog.py", "LANTERN_UNET, ", "DENOISER_KEYMAPS = ("),
    Step(
        "families/spaces.py",
        "from ..specs.network import PatchConfig\nfrom .keymaps.lantern import LANTERN_VAE\n",
        "from ..specs.mark import Mark\n",
    ),
    Step("families/spaces.py", SPACE, 'WIDE_RANGE = ("float32", "bfloat16")  # float16 ends at 65504\n'),
    Step("families/spaces.py", "LANTERN, ", "\nSPACES = ("),
    Step("families/lantern.py", FAMILY),
    Step("families/catalog.py", "from .lantern import LANTERN_FAMILY\n", "from .hunyuan_image import HUNYUAN_IMAGE\n"),
    Step("families/catalog.py", "\n    LANTERN_FAMILY,", "KNOWN_FAMILIES: tuple[KnownFamily, ...] = ("),
    Step("families/catalog.py", "LANTERN_FAMILY, ", "\nFAMILIES: tuple[Family, ...] = ("),
)


def read_section() -> str:
    return GUIDE.read_text(encoding="utf-8").partition(TITLE + "\n")[2].partition("\n## ")[0]


def follow(step: Step, package: Path) -> None:
    path = package / step.path
    assert path.exists() == bool(step.behind), step
    before = path.read_text(encoding="utf-8") if step.behind else ""
    assert not step.behind or before.count(step.behind) == 1, step
    path.write_text(before.replace(step.behind, step.behind + step.text) if step.behind else step.text, encoding="utf-8")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package without the embedded model, after the steps."""
    package = tmp_path_factory.mktemp("recipe") / "eightfold"
    shutil.copytree(SRC, package, ignore=shutil.ignore_patterns("__pycache__", "pocket"))
    for step in STEPS:
        follow(step, package)
    return package


def test_the_guide_names_what_the_steps_touch() -> None:
    named = {name for name in re.findall(r"`([a-z0-9_/]+\.py|[a-z]+/)`", read_section()) if not name.startswith("tests/")}
    named |= {name.replace("NAME", "lantern") for name in re.findall(r"`([a-z_/]+NAME\.py)`", read_section())}
    touched = {"autoencoders/" if step.path == "autoencoders/patch.py" else step.path for step in STEPS}
    assert named == touched
    for name in ("AutoencoderConfig", "NETWORKS", "SPACES", "KNOWN_FAMILIES", "FAMILIES"):
        assert f"`{name}`" in read_section()


def test_nothing_else_has_to_be_changed(package: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(package.parent), str(TESTS)])}
    work = package.parent / "work"
    work.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", "import test_recipe; test_recipe.check()"],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("all of it\n")


def check() -> None:
    """Run in the changed copy, in an empty folder."""
    write_files()
    check_identities()
    check_codecs()
    check_matches()
    check_drawing()
    print("all of it")


def write_files() -> None:
    """Each network of random weights in both layouts, all of them in one file, and an autoencoder of another space."""
    import torch

    from eightfold.autoencoders.build import build_autoencoder
    from eightfold.checkpoints.convert import to_original
    from eightfold.checkpoints.save import write_safetensors
    from eightfold.denoisers.unet import UNet
    from eightfold.families.catalog import FAMILIES
    from eightfold.specs.network import KLConfig
    from eightfold.text.words import WordsEncoder
    from weights import randomise

    family = next(family for family in FAMILIES if family.name == "lantern")
    parts = {
        "autoencoder": randomise(build_autoencoder(family.space.autoencoder), seed=1).state_dict(),
        "denoiser": randomise(UNet(family.denoiser), seed=2).state_dict(),
        "text": randomise(WordsEncoder(family.text), seed=3).state_dict(),
    }
    files = {
        "vae": parts["autoencoder"],
        "vae-original": to_original(parts["autoencoder"], family.space.keymap),
        "unet": parts["denoiser"],
        "unet-original": to_original(parts["denoiser"], family.keymap),
        "whole": {f"{part}.{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()},
        "foreign": build_autoencoder(KLConfig(channels=4, width=8, blocks=1, groups=4)).state_dict(),
        "inpaint": parts["denoiser"] | {"conv_in.weight": torch.zeros(8, 41, 3, 3)},
    }
    for name, tensors in files.items():
        write_safetensors(f"{name}.safetensors", tensors, {}, overwrite=False)


def check_identities() -> None:
    from eightfold.checkpoints.identity import identify_file

    def ask(name: str) -> list[tuple[str | None, ...]]:
        found = identify_file(f"{name}.safetensors")
        return sorted((one.component, one.family, one.space, one.variant, one.layout) for one in found)

    assert ask("vae") == [("autoencoder", None, "lantern", "base", "diffusers")]
    assert ask("vae-original") == [("autoencoder", None, "lantern", "base", "original")]
    assert ask("unet") == [("denoiser", "lantern", "lantern", "base", "diffusers")]
    assert ask("unet-original") == [("denoiser", "lantern", "lantern", "base", "original")]
    assert ask("inpaint") == [("denoiser", "lantern", "lantern", "inpaint", "diffusers")]
    assert [one[0] for one in ask("whole")] == ["autoencoder", "denoiser", "text"]


def check_codecs() -> None:
    import torch

    from eightfold.checkpoints.load import read_tensors
    from eightfold.cli.main import run
    from pocketfile import read_size, write_photo

    write_photo(Path("photo.png"), 50, 33)
    names = ("vae", "vae-original", "whole")
    for name in names:
        assert run(["encode", "photo.png", "--vae", f"{name}.safetensors", "--out", f"{name}.latent.safetensors"]) == 0
        assert run(["decode", f"{name}.latent.safetensors", "--vae", f"{name}.safetensors", "--out", f"{name}.png"]) == 0
        assert read_size(Path(f"{name}.png")) == (50, 33)
    latents = [read_tensors(f"{name}.latent.safetensors")["latent"] for name in names]
    assert latents[0].shape == (1, 5, 10, 14) and all(torch.equal(latents[0], other) for other in latents[1:])
    assert len({Path(f"{name}.png").read_bytes() for name in names}) == 1
    assert run(["noise", "photo.png", "--vae", "vae.safetensors", "--out", "noise.png"]) == 0


def check_matches() -> None:
    from eightfold.pipelines.match import match

    def judge(first: str, second: str) -> str:
        return match(f"{first}.safetensors", f"{second}.safetensors").answer

    pairs = [
        ("vae", "vae-original"),
        ("vae", "whole"),
        ("unet-original", "vae"),
        ("vae.latent", "vae-original"),
        ("inpaint", "vae-original"),
    ]
    assert {judge(*pair) for pair in pairs} == {"match"}
    assert {judge(name, "foreign") for name in ("vae", "vae-original", "unet", "whole", "vae.latent")} == {"mismatch"}


def check_drawing() -> None:
    from eightfold.cli.main import run
    from pocketfile import read_pixels, read_size

    drawing = ["generate", "a red lantern", "--model", "whole.safetensors"]
    assert run([*drawing, "--out", "drawn.png"]) == 0
    assert read_size(Path("drawn.png")) == (48, 32)
    assert run([*drawing, "--vae", "vae-original.safetensors", "--out", "again.png"]) == 0
    assert (read_pixels(Path("again.png")) == read_pixels(Path("drawn.png"))).all()
    assert run([*drawing, "--vae", "foreign.safetensors", "--out", "never.png"]) == 2
    assert run(["generate", "a blue lantern", "--model", "whole.safetensors"]) == 2
    assert run(["info", "whole.safetensors"]) == 0
