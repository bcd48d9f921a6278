from __future__ import annotations

import io
import os
import random
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from eightfold.codec.imageread import LIMIT, decode_image
from eightfold.codec.pixels import read_picture
from eightfold.core.errors import ImageError

PILLOWS_OWN_LIMIT = Image.MAX_IMAGE_PIXELS
PIXELS = np.random.default_rng(0).integers(0, 256, (7, 10, 3), dtype=np.uint8)


def read_bytes(path: Path) -> np.ndarray:
    return decode_image(path).pixels


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def build_png(width: int, height: int, depth: int, colour: int, rows: bytes, *between: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(between) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def to_rows(array: np.ndarray) -> bytes:
    return b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)


def build_profile(swap: tuple[bytes, bytes] | None = None, primaries: dict[bytes, tuple[float, float, float]] | None = None) -> bytes:
    """Pillow's sRGB profile with two of its colours exchanged, or with other primaries (XYZ, D50)."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    places = {}
    for index in range(struct.unpack_from(">I", profile, 128)[0]):
        name, offset, _ = struct.unpack_from(">4sII", profile, 132 + 12 * index)
        places[bytes(name)] = offset
    if swap:
        first, second = (profile[places[name] : places[name] + 20] for name in swap)
        profile[places[swap[0]] : places[swap[0]] + 20], profile[places[swap[1]] : places[swap[1]] + 20] = second, first
    for name, xyz in (primaries or {}).items():
        struct.pack_into(">3i", profile, places[name] + 8, *(round(part * 65536) for part in xyz))
    return bytes(profile)


def build_grey_profile(gamma: float) -> bytes:
    """The least that a grey ICC profile needs: a white point and a curve."""
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", round(0.9642 * 65536), 65536, round(0.8249 * 65536))
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    tags = struct.pack(">I", 2) + struct.pack(">4sII", b"wtpt", 156, 20) + struct.pack(">4sII", b"kTRC", 176, len(curve))
    content = tags + white + curve
    header = struct.pack(">I4sI4s4s4s12s4s", 128 + len(content), b"lcms", 0x02100000, b"mntr", b"GRAY", b"XYZ ", bytes(12), b"acsp")
    return header + bytes(28) + struct.pack(">3i", round(0.9642 * 65536), 65536, round(0.8249 * 65536)) + bytes(48) + content


def to_stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """What a camera stores: the EXIF value says where row 0 and column 0 of the file belong (2: top right, ... 8: left bottom)."""
    flipped = {2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, 1)}
    flipped |= {7: lambda a: np.rot90(a, 2).swapaxes(0, 1), 8: lambda a: np.rot90(a, -1)}
    return np.ascontiguousarray(flipped[orientation](upright)) if orientation in flipped else upright


@pytest.mark.parametrize("ending", ["png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, orientation: int, ending: str) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / f"a.{ending}"
    Image.fromarray(to_stored(PIXELS, orientation)).save(path, exif=exif, **({"lossless": True} if ending == "webp" else {}))
    decoded = decode_image(path)
    assert np.array_equal(decoded.pixels, PIXELS)
    assert decoded.notes == ((f"EXIF orientation {orientation} applied",) if orientation > 1 else ())


def test_exif_orientation_of_a_photograph_with_alpha_turned_alike(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    stored = to_stored(np.dstack([PIXELS, PIXELS[..., 0]]), 6)
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    decoded = decode_image(tmp_path / "a.png")
    assert np.array_equal(decoded.pixels, PIXELS)
    assert decoded.alpha is not None and np.array_equal(decoded.alpha, PIXELS[..., 0])
    Image.fromarray(np.full((8, 16, 3), 90, np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    assert read_bytes(tmp_path / "a.jpg").shape == (16, 8, 3)


def test_exif_that_makes_no_sense_costs_no_picture(tmp_path: Path) -> None:
    for number, exif in enumerate((b"Exif\0\0II*\0garbage", b"Exif\0\0nonsense", b"\xff" * 30)):
        Image.fromarray(PIXELS).save(tmp_path / f"{number}.png", exif=exif)
        assert np.array_equal(read_bytes(tmp_path / f"{number}.png"), PIXELS)
    exif = Image.Exif()
    exif[274] = 9
    Image.fromarray(PIXELS).save(tmp_path / "nine.png", exif=exif)
    assert np.array_equal(read_bytes(tmp_path / "nine.png"), PIXELS)


def test_a_profile_with_two_colours_exchanged(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png", icc_profile=build_profile(swap=(b"rXYZ", b"bXYZ")))
    decoded = decode_image(tmp_path / "a.png")
    assert np.abs(decoded.pixels.astype(int) - PIXELS[..., ::-1]).max() <= 1
    assert decoded.notes == ("ICC profile converted to sRGB",)


def test_a_wide_gamut_profile_by_the_matrices(tmp_path: Path) -> None:
    """Display P3 colours inside sRGB, against the conversion written out: linear P3 -> XYZ -> linear sRGB."""
    wide = np.array([(0.5151, 0.2412, -0.0011), (0.2919, 0.6922, 0.0419), (0.1572, 0.0666, 0.7841)]).T
    narrow = np.array([(0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)]).T
    primaries = {name: tuple(wide[:, index]) for index, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    pixels = np.random.default_rng(1).integers(90, 166, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png", icc_profile=build_profile(primaries=primaries))
    share = pixels / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    linear = linear @ (np.linalg.inv(narrow) @ wide).T
    expected = 255 * np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.abs(linear) ** (1 / 2.4) - 0.055)
    decoded = decode_image(tmp_path / "a.png")
    assert decoded.notes == ("ICC profile converted to sRGB",)
    assert np.abs(decoded.pixels - expected).max() < 1.5
    assert np.abs(decoded.pixels.astype(int) - pixels).max() > 5


def test_an_srgb_profile_changes_nothing(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png", icc_profile=build_profile())
    decoded = decode_image(tmp_path / "a.png")
    assert np.array_equal(decoded.pixels, PIXELS)
    assert decoded.notes == ()


def test_profiles_on_grey_palette_and_alpha(tmp_path: Path) -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(ramp).save(tmp_path / "grey.png", icc_profile=build_grey_profile(1.0))
    linear = ramp / 255
    expected = 255 * np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    decoded = decode_image(tmp_path / "grey.png")
    assert decoded.notes == ("ICC profile converted to sRGB",)
    assert np.abs(decoded.pixels - expected[..., None])[1:].max() < 1.5
    swapped = build_profile(swap=(b"rXYZ", b"bXYZ"))
    palette = Image.fromarray(PIXELS).quantize(64)
    palette.save(tmp_path / "palette.png", icc_profile=swapped)
    found = read_bytes(tmp_path / "palette.png").astype(int)
    assert np.abs(found - np.asarray(palette.convert("RGB"))[..., ::-1]).max() <= 1
    Image.fromarray(np.dstack([PIXELS, PIXELS[..., 1]])).save(tmp_path / "clear.png", icc_profile=swapped)
    clear = decode_image(tmp_path / "clear.png")
    assert np.abs(clear.pixels.astype(int) - PIXELS[..., ::-1]).max() <= 1
    assert clear.alpha is not None and np.array_equal(clear.alpha, PIXELS[..., 1])


def test_profiles_that_cannot_be_used_are_said(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png", icc_profile=b"no profile at all")
    Image.fromarray(PIXELS).save(tmp_path / "b.png", icc_profile=build_grey_profile(2.2))
    for name, why in (("a.png", "cannot be read"), ("b.png", "it is for L")):
        decoded = decode_image(tmp_path / name)
        assert np.array_equal(decoded.pixels, PIXELS)
        assert len(decoded.notes) == 1 and why in decoded.notes[0]
    Image.fromarray(np.dstack([PIXELS, PIXELS[..., 0]]), "CMYK").save(tmp_path / "c.tiff", icc_profile=build_profile())
    assert "the picture is CMYK" in decode_image(tmp_path / "c.tiff").notes[0]


def test_cmyk_is_read(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    red = read_bytes(tmp_path / "a.jpg")[4, 4].astype(int)
    assert red[0] > 240 and red[1] < 15 and red[2] < 15


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P", "RGBA", "RGB"])
def test_modes(tmp_path: Path, mode: str) -> None:
    source = Image.fromarray(np.dstack([PIXELS, PIXELS[..., 0]]))
    image = source.convert("RGB").quantize(200) if mode == "P" else source.convert(mode)
    image.save(tmp_path / "a.png")
    decoded = decode_image(tmp_path / "a.png")
    assert np.array_equal(decoded.pixels, np.asarray(image.convert("RGB")))
    if mode in ("LA", "RGBA"):
        assert decoded.alpha is not None and np.array_equal(decoded.alpha, PIXELS[..., 0])
    else:
        assert decoded.alpha is None


def test_one_colour_declared_clear(tmp_path: Path) -> None:
    clear = tuple(int(part) for part in PIXELS[2, 3])
    Image.fromarray(PIXELS).save(tmp_path / "rgb.png", transparency=clear)
    grey = Image.fromarray(PIXELS[..., 0])
    grey.save(tmp_path / "grey.png", transparency=int(PIXELS[2, 3, 0]))
    palette = Image.fromarray(PIXELS).quantize(200)
    palette.save(tmp_path / "palette.png", transparency=palette.getpixel((3, 2)))
    palette.save(tmp_path / "palette.gif", transparency=palette.getpixel((3, 2)))
    for name in ("rgb.png", "grey.png", "palette.png", "palette.gif"):
        alpha = decode_image(tmp_path / name).alpha
        assert alpha is not None and alpha[2, 3] == 0 and alpha[0, 0] == 255, name


def test_sixteen_bits_of_colour_are_said_to_be_cut(tmp_path: Path) -> None:
    deep = np.random.default_rng(2).integers(0, 65536, (5, 6, 4))
    (tmp_path / "rgb.png").write_bytes(build_png(6, 5, 16, 2, to_rows(deep[..., :3].reshape(5, -1))))
    (tmp_path / "rgba.png").write_bytes(build_png(6, 5, 16, 6, to_rows(deep.reshape(5, -1))))
    (tmp_path / "la.png").write_bytes(build_png(6, 5, 16, 4, to_rows(deep[..., :2].reshape(5, -1))))
    (tmp_path / "rgb.ppm").write_bytes(b"P6 6 5 65535\n" + deep[..., :3].astype(">u2").tobytes())
    for name in ("rgb.png", "rgba.png", "rgb.ppm"):
        decoded = decode_image(tmp_path / name)
        assert decoded.notes == ("16 bits a channel read as 8",), name
        assert np.abs(decoded.pixels - deep[..., :3] / 257).max() <= 1, name
    assert decode_image(tmp_path / "la.png").notes == ("16 bits a channel read as 8",)
    assert decode_image(tmp_path / "rgba.png").alpha is not None
    transparent = chunk(b"tRNS", struct.pack(">3H", *deep[1, 1, :3]))
    (tmp_path / "clear.png").write_bytes(build_png(6, 5, 16, 2, to_rows(deep[..., :3].reshape(5, -1)), transparent))
    alpha = decode_image(tmp_path / "clear.png").alpha
    assert alpha is not None and alpha[1, 1] == 0 and alpha[0, 0] == 255


def test_sixteen_bits_of_grey_are_kept(tmp_path: Path) -> None:
    deep = np.random.default_rng(3).integers(0, 65536, (5, 6)).astype(np.uint16)
    deep[0, :2] = 0, 65535
    Image.fromarray(deep).save(tmp_path / "a.png")
    Image.fromarray(deep).save(tmp_path / "a.tiff")
    (tmp_path / "b.tiff").write_bytes(build_big_endian_tiff(deep))
    (tmp_path / "a.pgm").write_bytes(b"P5 6 5 65535\n" + deep.astype(">u2").tobytes())
    for name in ("a.png", "a.tiff", "b.tiff", "a.pgm"):
        picture = read_picture(tmp_path / name)
        expected = torch.from_numpy(deep.astype(np.float64) / 65535 * 2 - 1)
        assert picture.notes == ("16 bits a channel",), name
        assert picture.image.shape == (1, 3, 5, 6)
        assert (picture.image - expected).abs().max() < 1e-6, name
    transparent = chunk(b"tRNS", struct.pack(">H", int(deep[3, 4])))
    (tmp_path / "clear.png").write_bytes(build_png(6, 5, 16, 0, to_rows(deep), transparent))
    alpha = decode_image(tmp_path / "clear.png").alpha
    assert alpha is not None and np.array_equal(alpha, np.where(deep == deep[3, 4], 0, 255))


def build_big_endian_tiff(deep: np.ndarray) -> bytes:
    data = deep.astype(">u2").tobytes()
    entries = [
        (256, 3, deep.shape[1]),
        (257, 3, deep.shape[0]),
        (258, 3, 16),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (279, 4, len(data)),
    ]
    packed = b"".join(
        struct.pack(">HHI", tag, kind, 1) + struct.pack(">HH" if kind == 3 else ">I", *((n, 0) if kind == 3 else (n,)))
        for tag, kind, n in entries
    )
    return b"MM\0*" + struct.pack(">I", 8 + len(data)) + data + struct.pack(">H", len(entries)) + packed + bytes(4)


def test_sixteen_bits_of_grey_with_a_profile_are_converted(tmp_path: Path) -> None:
    deep = np.full((4, 4), 32768, np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png", icc_profile=build_grey_profile(1.0))
    decoded = decode_image(tmp_path / "a.png")
    assert decoded.notes == ("16 bits a channel read as 8", "ICC profile converted to sRGB")
    assert np.abs(decoded.pixels.astype(int) - 188).max() <= 1


def test_sixteen_bit_tiff_of_colour_is_said_to_be_cut(tmp_path: Path) -> None:
    deep = np.random.default_rng(2).integers(0, 65536, (5, 6, 3))
    data = deep.astype("<u2").tobytes()
    entries = [
        (256, 3, 1, 6),
        (257, 3, 1, 5),
        (258, 3, 3, 8 + len(data)),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, 8),
        (277, 3, 1, 3),
        (279, 4, 1, len(data)),
    ]
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    bits = struct.pack("<3H", 16, 16, 16)
    content = b"II*\0" + struct.pack("<I", 8 + len(data) + len(bits)) + data + bits + struct.pack("<H", len(entries)) + packed + bytes(4)
    (tmp_path / "a.tiff").write_bytes(content)
    decoded = decode_image(tmp_path / "a.tiff")
    assert decoded.notes == ("16 bits a channel read as 8",)
    assert np.abs(decoded.pixels - deep / 257).max() <= 1


def test_pixels_of_unknown_range_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "a.tiff")
    Image.fromarray(np.zeros((4, 4), np.int32)).save(tmp_path / "b.tiff")
    for name in ("a.tiff", "b.tiff"):
        with pytest.raises(ImageError, match="range is not known"):
            read_picture(tmp_path / name)


def test_of_an_animation_the_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (6, 5), colour) for colour in ("red", "blue")]
    for name in ("a.gif", "a.webp", "a.png", "a.tiff"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **({"lossless": True} if name == "a.webp" else {}))
        decoded = decode_image(tmp_path / name)
        assert decoded.notes[0] == "first of several frames", name
        assert (decoded.pixels == (255, 0, 0)).all(), name


def build_hostile(folder: Path) -> dict[str, str]:
    """Files by name, and what the error says of them."""
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(whole, "PNG")
    photo = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(photo, "JPEG")
    contents = {
        "text.png": b"This is a text and not a picture at all.\n",
        "empty.png": b"",
        "cut.png": whole.getvalue()[:5000],
        "cut.jpg": photo.getvalue()[: len(photo.getvalue()) // 2],
        "magic.png": b"\x89PNG\r\n\x1a\n",
        "zeros.png": bytes(4000),
        "huge.png": build_png(50_000, 50_000, 8, 2, b""),
        "tall.png": build_png(1, LIMIT + 1, 1, 0, b""),
        "script.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
        "huge.gif": b"GIF89a" + struct.pack("<HHBBB", 50_000, 50_000, 0x80, 0, 0) + bytes(6) + b",",
        "huge.bmp": b"BM" + struct.pack("<IIIIiiHHIIiiII", 100, 0, 54, 40, 50_000, 50_000, 1, 24, 0, 0, 0, 0, 0, 0),
        "huge.ppm": b"P6 50000 50000 255\n",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    said = {"text.png": "not a picture", "empty.png": "is empty", "cut.png": "cannot be decoded", "cut.jpg": "cannot be decoded"}
    said |= {
        "huge.png": "50000x50000",
        "tall.png": f"1x{LIMIT + 1}",
        "script.eps": "not a picture",
        "huge.gif": "",
        "huge.bmp": "50000x50000",
    }
    return {name: said.get(name, "") for name in contents} | {"huge.ppm": "50000x50000", ".": "is a folder", "missing.png": "is not there"}


def test_hostile_files_are_one_line_with_a_hint(tmp_path: Path) -> None:
    before = sorted(warnings.filters, key=str)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, said in build_hostile(tmp_path).items():
            with pytest.raises(ImageError) as caught:
                read_picture(tmp_path / name)
            assert said in str(caught.value) and "\n" not in str(caught.value) and caught.value.hint, name
            if "50000" in said:
                assert "2500 million" in str(caught.value) and "268 million" in str(caught.value)
    assert Image.MAX_IMAGE_PIXELS == PILLOWS_OWN_LIMIT
    assert sorted(warnings.filters, key=str) == before


def test_too_many_pixels_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    (tmp_path / "a.png").write_bytes(build_png(50_000, 50_000, 8, 2, bytes(1000)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageError, match="the limit is 268 million"):
        read_picture(tmp_path / "a.png")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB; the pixels would take 7.5 million


def test_large_pictures_below_the_limit_are_no_bombs(tmp_path: Path) -> None:
    """Pillow itself warns from 89 million pixels and refuses from 179."""
    (tmp_path / "a.png").write_bytes(build_png(20_000, 10_000, 1, 0, b"\0"))
    with pytest.raises(ImageError, match="cannot be decoded: image file is truncated"):
        read_picture(tmp_path / "a.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(ImageError, match="not a regular file"):
        read_picture(tmp_path / "a.png")


@settings(max_examples=60)
@given(ending=st.sampled_from(["png", "jpg", "webp", "gif", "tiff", "bmp"]), seed=st.integers(0, 2**20))
def test_damaged_files_are_read_or_refused_but_never_crash(tmp_path_factory: pytest.TempPathFactory, ending: str, seed: int) -> None:
    path = tmp_path_factory.mktemp("damaged") / f"a.{ending}"
    Image.fromarray(PIXELS).save(path)
    content, chance = bytearray(path.read_bytes()), random.Random(seed)
    for _ in range(chance.randint(1, 6)):
        content[chance.randrange(len(content))] = chance.randrange(256)
    path.write_bytes(content[: chance.randint(1, len(content))] if chance.random() < 0.3 else content)
    try:
        image = read_picture(path).image
    except ImageError as error:
        assert error.hint
    else:
        assert image.abs().max() <= 1
