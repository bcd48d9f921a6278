"""The Python of the README runs as it is printed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from pocketfile import read_size, write_photo, write_vae

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
