"""The rules of the house: layers, sizes, names, what may be imported when, and what the library never does."""

from __future__ import annotations

import ast
import inspect
import os
import re
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SRC = ROOT / "src" / "eightfold"
LIBRARY = sorted(SRC.rglob("*.py"))
CODE = sorted([*LIBRARY, *(path for folder in ("tests", "examples", "benchmarks") for path in (ROOT / folder).rglob("*.py"))])
TEXTS = {".py", ".md", ".toml", ".txt", ".cfg", ".yml", ".yaml", ".json", ".html", ".js", ".css", ""}
NOT_OURS = {".git", ".venv", ".hypothesis", "runs", "demo", "build", "dist", "node_modules", "__pycache__"}
LOUD = {"print", "input", "exit", "quit", "breakpoint", "sys.exit", "os._exit", "os.abort"}
ABSTRACT = {"utils", "util", "helpers", "helper", "misc", "common", "manager", "managers"}
NETWORK = {"urllib", "urllib3", "requests", "http", "httpx", "aiohttp", "socket", "ssl", "ftplib", "huggingface_hub"}
PICKLING = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
HEAVY = ("torch", "numpy", "pydantic", "transformers", "numba", "safetensors", "PIL")
BROKEN = """
import pickle, os
from urllib.request import urlopen
N = os.environ["N"]
def f():
    print(torch.load("x"))
    sys.exit()
"""
HELP = """
sys.argv = ["eightfold", *{arguments}]
from eightfold.cli.main import main
try:
    main()
except SystemExit as end:
    assert not end.code
"""
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(SRC.parent)}


def name_file(path):
    return str(path.relative_to(ROOT))


@cache
def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def list_functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def list_imports(tree):
    """The first part of every module that is imported, at the top or inside a function; relative ones are ours."""
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level]
    return {name.split(".")[0] for name in names}


def list_calls(tree):
    """What is called, as it is written: `print`, `sys.exit`."""
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    plain = {call.id for call in calls if isinstance(call, ast.Name)}
    return plain | {
        f"{call.value.id}.{call.attr}" for call in calls if isinstance(call, ast.Attribute) and isinstance(call.value, ast.Name)
    }


def list_early_reads(tree):
    """Lines outside of functions that look at the environment."""
    late = {id(node) for function in list_functions(tree) for node in ast.walk(function)}
    reads = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")]
    return {node.lineno for node in reads if id(node) not in late}


def find_offences(paths, look):
    """File name -> what `look` finds in it, where it finds something."""
    return {name_file(path): found for path in paths if (found := look(parse(path)))}


def walk_texts():
    """Every file of the repository that people read, without what is built or installed."""
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in NOT_OURS and not name.endswith("_cache")]
        yield from (Path(folder, name) for name in files if Path(name).suffix in TEXTS)


def run_python(*arguments):
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)


def list_loaded(code, names=HEAVY):
    """Which of `names` are loaded after `code` ran in a fresh interpreter."""
    done = run_python("-c", f"import sys\n{code}\nprint('LOADED', *[name for name in {names!r} if name in sys.modules])")
    assert done.returncode == 0, done.stderr
    return done.stdout.rpartition("LOADED")[2].split()


def test_layers():
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(config_filename='pyproject.toml', no_cache=True))"
    done = run_python("-c", code)
    assert done.returncode == 0, done.stdout + done.stderr


def test_files_are_short():
    assert not [name_file(path) for path in CODE if len(path.read_text(encoding="utf-8").splitlines()) > 400]


def test_functions_are_short_and_take_few_arguments():
    for path in CODE:
        for function in list_functions(parse(path)):
            lines = (function.end_lineno or 0) - function.lineno + 1
            given = function.args
            arguments = [one.arg for one in [*given.posonlyargs, *given.args, *given.kwonlyargs] if one.arg not in ("self", "cls")]
            assert lines < 60, f"{name_file(path)}: {function.name} has {lines} lines"
            assert len(arguments) <= 8, f"{name_file(path)}: {function.name} has {len(arguments)} arguments"


def test_names_say_something():
    for path in LIBRARY:
        assert not {*path.relative_to(SRC).with_suffix("").parts} & ABSTRACT, name_file(path)
        classes = [node.name for node in ast.walk(parse(path)) if isinstance(node, ast.ClassDef)]
        assert not [name for name in classes if name.endswith(("Mixin", "Manager", "Helper", "Util", "Utils"))], name_file(path)


def test_modules_say_what_they_are():
    assert not [name_file(path) for path in LIBRARY if path.read_text(encoding="utf-8") and not ast.get_docstring(parse(path))]


def test_the_library_neither_prints_nor_exits_nor_asks():
    silent = [path for path in LIBRARY if path.relative_to(SRC).parts[0] != "cli"]
    assert not find_offences(silent, lambda tree: list_calls(tree) & LOUD)


def test_the_library_does_not_know_the_network():
    deaf = [path for path in LIBRARY if path.name != "hub.py"]  # which is asked by a hub's name alone
    assert not find_offences(deaf, lambda tree: list_imports(tree) & NETWORK)


def test_nothing_is_unpickled_or_executed():
    assert not find_offences(LIBRARY, lambda tree: list_imports(tree) & PICKLING | list_calls(tree) & {"torch.load", "eval", "exec"})
    assert not find_offences(
        LIBRARY, lambda tree: {"allow_pickle"} & {node.arg for node in ast.walk(tree) if isinstance(node, ast.keyword)}
    )


def test_the_environment_is_not_read_on_import():
    assert not find_offences(LIBRARY, list_early_reads)


def test_the_rules_can_be_broken():
    """What the readers above find in a text that breaks every rule."""
    tree = ast.parse(BROKEN)
    assert list_imports(tree) == {"pickle", "os", "urllib"}
    assert list_calls(tree) == {"print", "torch.load", "sys.exit"}
    assert list_early_reads(tree) == {4}
    assert [function.name for function in list_functions(tree)] == ["f"]


@pytest.mark.parametrize(
    "module",
    [
        "eightfold",
        "eightfold.cli.main",
        "eightfold.core.errors, eightfold.core.device, eightfold.core.config, eightfold.core.files, eightfold.core.rng",
        "eightfold.specs.family, eightfold.families.catalog, eightfold.families.spaces",
        "eightfold.checkpoints.formats, eightfold.checkpoints.inventory, eightfold.checkpoints.identity, eightfold.checkpoints.match",
    ],
)
def test_an_import_stays_light(module):
    assert list_loaded(f"import {module}") == []


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["generate", "--help"], ["train", "--help"]], ids=" ".join)
def test_help_stays_light(arguments):
    assert list_loaded(HELP.format(arguments=arguments)) == []


def test_the_package_is_a_command():
    done = run_python("-m", "eightfold", "--help")
    assert done.returncode == 0, done.stderr
    assert all(verb in done.stdout for verb in ("generate", "encode", "decode", "roundtrip", "train", "info"))


def test_building_a_network_does_not_load_a_compiler():
    code = """
    import torch
    from eightfold.autoencoders.kl import KLAutoencoder
    from eightfold.denoisers.unet import UNet
    from eightfold.families.pocket import POCKET_FAMILY
    from eightfold.text.words import WordsEncoder
    with torch.device("meta"):
        UNet(POCKET_FAMILY.denoiser), KLAutoencoder(POCKET_FAMILY.space.autoencoder), WordsEncoder(POCKET_FAMILY.text)
    """
    assert list_loaded(inspect.cleandoc(code), ("torch._dynamo", "torch._inductor", "sympy")) == []


def test_public_names():
    import eightfold

    assert {"load", "autoencoder", "Request"} <= {*eightfold.__all__}
    assert {*eightfold.__all__} <= {*dir(eightfold)}
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = eightfold.nothing_like_it


def test_public_names_are_documented():
    """A docstring in the source; the one that a dataclass makes up says nothing."""
    import eightfold

    for name in eightfold.__all__:
        one = getattr(eightfold, name)
        tree = parse(Path(sys.modules[one.__module__].__file__))
        found = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == one.__name__]
        assert len(found) == 1, name
        assert ast.get_docstring(found[0]), name


def test_tests_reach_no_network():
    with pytest.raises(RuntimeError, match="a test tried to connect"):
        socket.create_connection(("127.0.0.1", 9), timeout=1)


def test_texts_name_no_place_on_one_machine():
    place = re.compile(r"(?<![\w.-])/[w]ork/|/[r]oot/|(?<![\w/-])(\.\./)*[s]hared/")
    assert place.search("see " + "/wo" + "rk/x") and place.search("../sha" + "red/x")
    texts = list(walk_texts())
    assert {ROOT / "Makefile", Path(__file__)} <= {*texts}
    for path in texts:
        found = place.search(path.read_text(encoding="utf-8", errors="replace"))
        assert not found, f"{name_file(path)}: {found}"


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "pyproject.toml", ".ci/run"])
def test_the_repository_has(name):
    assert (ROOT / name).stat().st_size > 0


def test_the_continuous_check_is_make_test():
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
