"""Weight files that somebody wants to do harm with: a clean error, little memory, no code run."""

from __future__ import annotations

import json
import os
import random
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file

from eightfold.checkpoints.components import split_components
from eightfold.checkpoints.inventory import read_inventory
from eightfold.checkpoints.load import read_tensors
from eightfold.core.errors import CheckpointError
from gguffile import F16, F32, Q4_0, Q8_0, Row, to_gguf, to_text
from torchfile import Call, Numbers, to_pickle, to_tensor, write_archive

ORIGINAL = "comfy.gguf.orig_shape.a"
KINDS = ("safetensors", "torch", "calling", "gguf", "shards")


def build_sound(kind, folder):
    """One small file of each kind that can be read; in a folder of shards, the index. `calling` would make the folder `ran`."""
    tensors = {"vae.first": torch.arange(6.0).reshape(2, 3), "second": torch.arange(9.0).half()[2:7], "third": torch.tensor(3)}
    path = folder / f"{kind}.weights"
    if kind == "safetensors":
        save_file({name: tensor.clone() for name, tensor in tensors.items()}, path, {"k": "v"})
    elif kind == "torch":
        turned = torch.arange(12.0).view(3, 4).t()
        torch.save({"state_dict": OrderedDict(tensors | {"turned": turned}), "global_step": 3, "list": [1, (2, "x")]}, path)
    elif kind == "calling":
        bomb = Call(os.mkdir, str(folder / "ran"))
        table = {"a": to_tensor(Numbers("0", 4), 0, (4,), (1,)), "b": bomb}
        write_archive(path, {"state_dict": table, "c": [bomb, bomb]}, {"data/0": bytes(16)})
    elif kind == "gguf":
        rows = [
            Row("a", F32, (2, 3), bytes(24)),
            Row("b", Q8_0, (2, 32), bytes(68)),
            Row("c", Q4_0, (32,), bytes(18)),
            Row("d", F16, (5,), bytes(10)),
        ]
        path.write_bytes(to_gguf(rows, {"general.architecture": "flux", "n": ("u32", 7), "list": ("text", ["a", "bc"])}))
    else:
        save_file({"a": torch.ones(2)}, folder / "w-1.safetensors")
        path = folder / "w.safetensors.index.json"
        path.write_text(json.dumps({"metadata": {}, "weight_map": {"a": "w-1.safetensors"}}))
    return path


def mutate(content, chance):
    """Bytes changed, cut, doubled, moved, or replaced by numbers that lengths and offsets like."""
    content = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 5))):
        at = chance.randrange(len(content) + 1)
        way = chance.randrange(6)
        if way == 0 and content:
            content[at % len(content)] = chance.randrange(256)
        elif way == 1 and content:
            content[at % len(content)] ^= 1 << chance.randrange(8)
        elif way == 2:
            del content[at : at + chance.randrange(40)]
        elif way == 3:
            content[at:at] = content[chance.randrange(len(content) + 1) :][: chance.randrange(40)]
        elif way == 4:
            number = chance.choice((0, 1, 2**16 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1))
            content[at : at + 8] = struct.pack("<Q", number)[: chance.choice((2, 4, 8))]
        else:
            content[at : at + chance.randrange(20)] = chance.randbytes(chance.randrange(20))
    return bytes(content)


def assert_harmless(path, folder):
    """Either all of it is read, as listed, or a CheckpointError says why not."""
    try:
        inventory = read_inventory(path)
        assert all(isinstance(name, str) for name in inventory.tensors)
        split_components(inventory)
        found = read_tensors(inventory)
        for name, tensor in found.items():
            assert tuple(tensor.shape) == inventory.tensors[name].shape
            tensor.double().sum()
    except CheckpointError as error:
        assert "\n" not in str(error) and error.hint and len(str(error)) < 2000
    assert not (folder / "ran").exists()


def attack(kind, folder, seeds):
    path = build_sound(kind, folder)
    content = path.read_bytes()
    for seed in seeds:
        path.write_bytes(mutate(content, random.Random(seed)))
        assert_harmless(path, folder)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_attacked_is_sound(tmp_path, kind):
    assert read_tensors(build_sound(kind, tmp_path))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_forty_mutations(tmp_path, kind):
    attack(kind, tmp_path, range(40))


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_four_thousand_mutations(tmp_path, kind):
    attack(kind, tmp_path, range(40, 4040))


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps to a limit of memory")
@pytest.mark.parametrize("kind", KINDS)
def test_four_thousand_mutations_within_512_megabytes(tmp_path, kind):
    """The same files, listed by a process that has no more memory than that."""
    path = build_sound(kind, tmp_path)
    content = path.read_bytes()
    path.unlink()
    for seed in range(40, 4040):
        path.with_name(f"{seed}.{path.name}").write_bytes(mutate(content, random.Random(seed)))
    found = list_apart(tmp_path)
    assert len(found) == 4000 + (kind == "shards")
    assert set(found.values()) <= {"read", "refused"}
    assert not (tmp_path / "ran").exists()


def attack_pickle(kind, folder, seeds):
    """The pickle alone changes, in an archive that stays whole: what a broken table of contents would hide."""
    path = build_sound(kind, folder)
    with zipfile.ZipFile(path) as archive:
        base = archive.namelist()[0].partition("/")[0]
        pickled = archive.read(f"{base}/data.pkl")
        others = {name.partition("/")[2]: archive.read(name) for name in archive.namelist() if not name.endswith("data.pkl")}
    for seed in seeds:
        write_archive(path, mutate(pickled, random.Random(seed)), others)
        assert_harmless(path, folder)


@pytest.mark.parametrize("kind", ["torch", "calling"])
def test_mutated_pickles(tmp_path, kind):
    attack_pickle(kind, tmp_path, range(60))


@pytest.mark.long
@pytest.mark.parametrize("kind", ["torch", "calling"])
def test_two_thousand_mutated_pickles(tmp_path, kind):
    attack_pickle(kind, tmp_path, range(60, 2060))


def to_safetensors(header, data=b""):
    return len(header).to_bytes(8, "little") + header + data


def to_zip(count, name=b"archive/data.pkl"):
    """A table of contents with `count` entries, all of one place."""
    entry = struct.pack("<4s6H3L5H2L", b"PK\1\2", 0, 0, 0, 0, 0, 0, 0, 0, 0, len(name), 0, 0, 0, 0, 0, 0) + name
    return b"PK\3\4" + bytes(26) + entry * count + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0, min(count, 65535), len(entry) * count, 30, 0)


def write_bombs(folder):
    """Each would take gigabytes, minutes or the whole stack if it were believed."""
    start = b"GGUF" + struct.pack("<I", 3)
    many = struct.pack("<Q", 10**5)
    row = to_text("a") + struct.pack("<IQIQ", 1, 1, 0, 0) + bytes(64)
    contents = {
        "braces": to_safetensors(b'{"a":' + b"{}," * 2_000_000),
        "tables": to_safetensors(b"{" + b",".join(b'"%d":{}' % number for number in range(100_000)) + b"}"),
        "depth": to_safetensors(b'{"a":' + b"[" * 20_000_000),
        "numbers": to_safetensors(b'{"a":{"dtype":"F32","shape":[' + b"9999999999999999," * 1_300_000 + b'1],"data_offsets":[0,1]}}'),
        "digits": to_safetensors(b'{"a":' + b"9" * 20_000_000 + b"}"),
        "text": to_safetensors(b'{"a":"' + "😀".encode() + b"x" * 20_000_000 + b'"}'),
        "length": (99_000_000).to_bytes(8, "little") + b"{" + b" " * 1000,
        "entries": to_zip(100_000),
        "claimed": to_zip(10),
        "texts": start + struct.pack("<QQ", 0, 1) + to_text("k") + struct.pack("<IIQ", 9, 8, 600_000) + bytes(8) * 599_999,
        "rows": start + struct.pack("<QQ", 10**5, 0) + b"".join(to_text(str(n)) + bytes(16) for n in range(10**4)),
        "names": start + many + bytes(8) + (to_text(b"n" * 900) + bytes(16)) * 20_000,
        "pairs": start + bytes(8) + many + b"".join(to_text(str(n)) + struct.pack("<IIIQ", 9, 4, 0, 0) for n in range(10**4)),
    }
    empty = b'{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    contents |= {
        "many": to_safetensors(b"{" + b",".join(b'"%d/a":%s' % (number, empty) for number in range(20_000)) + b"}"),
        "networks": to_safetensors(b"{" + b",".join(b'"conditioner.embedders.%d.a":%s' % (n, empty) for n in range(20_000)) + b"}"),
        "header": to_safetensors(b'{"' + b" " * 26_000_000 + b'":%s}' % empty),
        "letters": start + struct.pack("<QQ", 0, 1) + to_text("k") + struct.pack("<I", 8) + to_text(b"\xff" * 17_000_000),
        "original": start + struct.pack("<QQ", 1, 1) + to_text(ORIGINAL) + struct.pack("<I", 8) + to_text(b"[" * 9_000_000) + row,
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    shared = to_tensor(Numbers("0", 4), 0, (1,) * 66, (1,) * 66)
    views = [to_tensor(Numbers("0", 4), 0, (4,), (1,)) for _ in range(3)]
    pickles = {
        "steps": b"\x80\x02" + b"N0" * 250_000 + b".",
        "marks": b"(" * 100_000 + b".",
        "nested": b"}" + b"\x85" * 100_000 + b".",
        "doubling": b"K\1" + b"2\x86" * 100_000 + b".",
        "shared": b"\x80\x02]q\0(" + b"K\1" * 100_000 + b"e0ccollections\nOrderedDict\nq\1h\0\x85q\x020" + b"h\1h\2R0" * 20_000 + b".",
        "sizes": b"\x80\x02]q\0(" + b"K\1" * 100_000 + b"e0ctorch\nSize\nq\1h\0\x85q\x020" + b"h\1h\2R0" * 20_000 + b".",
        "slots": b"\x80\x02}" + b"".join(b"p%d\n" % ((2**61 - 1) * number) for number in range(100_000)) + b".",
        "texts2": b"\x80\x02}" + b"X\xff\xff\xff\x7fabc" + b".",
        "big": b"\x8b" + struct.pack("<i", 20_000_000) + b"\x01" * 20_000_000 + b".",
        "wide": b"V" + b"\\U0001F600" * 2_000_000 + b"\n.",
        "arguments": b"\x80\x02(" + b"K\1" * 190_000 + b"tq\0" + b"0ccollections\nOrderedDict\nq\1" + b"0h\1h\0R" * 50_000 + b".",
        "long name": b"\x80\x02c" + b"m" * 20_000_000 + b"\nx\nq\0)q\1" + b"0h\0h\1R" * 90_000 + b".",
        "many axes": to_pickle({str(number): shared for number in range(20_000)}),
        "one table": to_pickle({str(number): {"a": 1} for number in range(10_000)}),
        "repeats": to_pickle({"a": to_tensor(Numbers("0", 4), 0, (2**40,), (0,)), "b": views}),
    }
    for name, pickled in pickles.items():
        write_archive(folder / name, pickled, {"data/0": bytes(16)})
    places = ",".join(f'"{number}":"{number}.safetensors"' for number in range(60_000))
    (folder / "a.safetensors.index.json").write_text(f'{{"weight_map":{{{places}}}}}')
    return sorted(path.name for path in folder.iterdir())


READ = """
import resource, sys, time
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (512 * 2**20, 512 * 2**20))
from eightfold.checkpoints.components import split_components
from eightfold.checkpoints.inventory import read_inventory
from eightfold.core.errors import CheckpointError
for name in sorted(path.name for path in Path(sys.argv[1]).iterdir()):
    begun = time.process_time()
    try:
        split_components(read_inventory(Path(sys.argv[1], name)))
        said = "read"
    except CheckpointError as error:
        said = "refused"
        assert len(str(error)) < 2000 and chr(10) not in str(error)
    taken, peak = time.process_time() - begun, Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]
    print(name, said, round(taken, 2), int(peak) // 1024, sep="\\t", flush=True)
"""


def list_apart(folder):
    """File -> "read" or "refused", by a process with 512 MB; the seconds and megabytes that it took stand in what it prints."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", READ, str(folder)], capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    print("slowest:", max(rows, key=lambda row: float(row[2])), "largest:", max(rows, key=lambda row: int(row[3])))
    return {row[0]: row[1] for row in rows}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps to a limit of memory")
def test_bombs_are_disarmed_within_512_megabytes(tmp_path):
    names = write_bombs(tmp_path)
    found = list_apart(tmp_path)
    assert sorted(found) == names
    assert {name for name, said in found.items() if said == "read"} == {"many", "many axes"}  # large, but nothing is wrong with them
