"""What the README prints runs as it is printed: the Python, and the commands for files of Stable Diffusion."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from adapterfile import name_tensors
from eightfold.checkpoints.save import write_safetensors
from eightfold.cli.main import run
from eightfold.nn.lowrank import LowRank
from pocketfile import read_size, write_photo, write_vae
from toyfamilies import TOYS, build_file, draw_parts, install, write_control, write_file
from weights import draw

README = Path(__file__).parent.parent / "README.md"


def read_block(heading: str) -> str:
    """The first Python block below a heading."""
    section = re.split(rf"^#+ {re.escape(heading)}\n", README.read_text(encoding="utf-8"), flags=re.MULTILINE)[1]
    block = re.search(r"^```python\n(.*?)^```", section, flags=re.DOTALL | re.MULTILINE)
    assert block is not None, heading
    return block[1]


def test_the_python_api(tmp_path: Path) -> None:
    write_vae(tmp_path / "vae.safetensors")
    write_photo(tmp_path / "photo.jpg", 83, 62)
    program = read_block("The Python API")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    numbers = [tuple(int(word) for word in line.split()) for line in done.stdout.splitlines()]
    total = numbers[0][1]
    assert numbers == [(number, total) for number in range(1, total + 1)]
    assert read_size(tmp_path / "cube.png") == (128, 128)
    assert (tmp_path / "photo.latent.safetensors").is_file()
    assert read_size(tmp_path / "again.png") == read_size(tmp_path / "photo.jpg") == (83, 62)


def read_commands(*words: str) -> list[list[str]]:
    """The commands that the README prints and that have one of these words, without `eightfold` and what is said behind them."""
    section = re.split(r"^#+ Command line\n", README.read_text(encoding="utf-8"), flags=re.MULTILINE)[1]
    lines = re.search(r"^```\n(.*?)^```", section, flags=re.DOTALL | re.MULTILINE)
    assert lines is not None
    return [shlex.split(line, comments=True)[1:] for line in lines[1].splitlines() if any(word in line for word in words)]


def write_files(folder: Path) -> None:
    """What these commands name, at a toy width."""
    toy = TOYS["sd1"].to_edition("base")
    write_file(folder / "sd15.safetensors", toy)
    shutil.copy(folder / "sd15.safetensors", folder / "model.safetensors")
    torch.save({"state_dict": build_file(toy)}, folder / "model.ckpt")
    write_safetensors(folder / "vae.safetensors", draw_parts(toy)[1], {}, overwrite=False)
    (folder / "folder").mkdir()
    shutil.copy(folder / "vae.safetensors", folder / "folder")
    shutil.copy(folder / "model.safetensors", folder / "folder")
    change = LowRank(up=draw(toy.denoiser.width, 2), down=draw(2, toy.denoiser.width))
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    write_safetensors(folder / "style.safetensors", name_tensors(change, name, "kohya"), {}, overwrite=False)
    torch.save({"string_to_param": {"*": draw(2, toy.denoiser.context)}}, folder / "word.pt")
    write_control(folder / "canny.safetensors", toy)
    write_photo(folder / "photo.png", 80, 60)


def test_the_commands_for_stable_diffusion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Exactly as they are printed; a hub's name leads to a file."""
    install(monkeypatch.setattr)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EIGHTFOLD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("eightfold.pipelines.bundle.find_model", lambda name, offline: tmp_path / {"OWNER/NAME": "sd15.safetensors"}[name])
    write_files(tmp_path)
    commands = read_commands("sd15", "OWNER/NAME", "model.safetensors", "eightfold models", "model.ckpt")
    assert len(commands) == 7
    for command in commands:
        if command[0] == "convert":
            Path(command[2]).unlink()  # another command has read what this one writes
        code = run(command)
        written = capsys.readouterr()
        assert code == 0, (command, written.err)
        assert "warning" not in written.err or "photo.png is 80x60" in written.err, written.err
        if command[0] == "generate":
            path = tmp_path / written.out.strip()
            assert read_size(path) == (64, 64)
            path.unlink()  # the third would have the first one's name
    assert (tmp_path / "vae.safetensors").exists()


def test_the_commands_for_special_editions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    install(monkeypatch.setattr)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EIGHTFOLD_CACHE", str(tmp_path / "cache"))
    write_file(tmp_path / "instruct-pix2pix.safetensors", TOYS["sd1"].to_edition("instruct"))
    for name, edition in (("sdxl", "base"), ("refiner", "refiner")):
        write_file(tmp_path / f"{name}.safetensors", TOYS["sdxl"].to_edition(edition))
    write_photo(tmp_path / "photo.png", 80, 60)
    found = []
    for command in read_commands("instruct-pix2pix", "--refiner"):
        assert run(command) == 0, capsys.readouterr().err
        found.append(read_size(tmp_path / capsys.readouterr().out.strip()))
    assert found == [(80, 60), (64, 64)]
