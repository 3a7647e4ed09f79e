"""A decoder's odd modes: the picture that a viewer shows. Files are written here byte by byte, as no library writes all."""

import contextlib
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from pyro_hvae.data.files.image_reader import count_pages, read_image, read_pages
from pyro_hvae.data.sets.user_data import load_user_data
from pyro_hvae.errors import ConfigError, DataError

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
COLOUR = np.stack([GREY, 255 - GREY, GREY // 2], 2)
UPRIGHT = {  # orientation -> what turns the stored pixels upright (TIFF 6.0, tag 274)
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PYRO_HVAE_CACHE", str(tmp_path / "cache"))


def tiff(pixels, order="<", raw=None, **tags):
    """An uncompressed TIFF of one page and one strip."""
    (height, width), samples = pixels.shape[:2], pixels.shape[2] if pixels.ndim > 2 else 1
    raw = raw or pixels.tobytes()
    bits = tags.get("bits", 8 * pixels.dtype.itemsize)
    entries = [(254, [tags.get("subfile", 0)]), (256, [width]), (257, [height]), (258, [bits] * samples), (259, [1])]
    entries += [(262, [tags.get("photometric", 1)]), (273, None), (274, [tags.get("orientation", 1)]), (277, [samples])]
    entries += [(278, [height]), (279, [len(raw)])]
    entries += [(320, [i * 257 for i in range(256)] * 3)] if tags.get("photometric") == 3 else []
    entries += [(338, [tags["alpha"]])] if "alpha" in tags else []
    entries += [(339, [tags["sample_format"]] * samples)] if "sample_format" in tags else []
    after = 8 + 2 + 12 * len(entries) + 4
    tail = b"".join(struct.pack(f"{order}{len(values)}H", *values) for _, values in entries if values and len(values) > 2)
    directory, place = struct.pack(f"{order}H", len(entries)), after
    for tag, values in entries:
        values = [after + len(tail)] if values is None else values
        if len(values) > 2:
            directory += struct.pack(f"{order}HHII", tag, 3, len(values), place)
            place += 2 * len(values)
        elif tag == 273:
            directory += struct.pack(f"{order}HHII", tag, 4, 1, *values)
        else:
            packed = struct.pack(f"{order}{len(values)}H", *values).ljust(4, b"\0")
            directory += struct.pack(f"{order}HHI", tag, 3, len(values)) + packed
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    return head + directory + bytes(4) + tail + raw


def png(pixels, depth, colour, transparent=(), raw=None):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = pixels.shape[:2]
    raw = raw or pixels.astype(">u2" if depth == 16 else np.uint8).tobytes()
    size = len(raw) // height
    lines = b"".join(b"\0" + raw[i * size : (i + 1) * size] for i in range(height))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    marks = chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent)) if transparent else b""
    return b"\x89PNG\r\n\x1a\n" + head + marks + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def shown(folder, content, name="a.tif"):
    (folder / name).write_bytes(content)
    image = read_image(folder / name)
    return image[0] if len(image) == 1 else image.transpose(1, 2, 0)


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize(
    "kind", ["grey", "16 bits", "16 bits, big-endian", "palette", "colour", "colour and alpha", "1 - grey"]
)
def test_turned_tiffs(tmp_path, orientation, kind):
    alpha = np.concatenate([COLOUR, np.full((3, 4, 1), 255, np.uint8)], 2)
    content, wanted = {
        "grey": (tiff(GREY, orientation=orientation), GREY),
        "1 - grey": (tiff(GREY, orientation=orientation, photometric=0), 255 - GREY),
        "16 bits": (tiff(GREY.astype("<u2") * 257, orientation=orientation), GREY),
        "16 bits, big-endian": (tiff((GREY.astype("u2") * 257).astype(">u2"), ">", orientation=orientation), GREY),
        "palette": (tiff(GREY, orientation=orientation, photometric=3), GREY),
        "colour": (tiff(COLOUR, orientation=orientation, photometric=2), COLOUR),
        "colour and alpha": (tiff(alpha, orientation=orientation, photometric=2, alpha=2), COLOUR),
    }[kind]
    assert np.array_equal(shown(tmp_path, content), UPRIGHT[orientation](wanted))


def test_the_value_of_white_in_a_tiff(tmp_path):
    for turned in (1, 6):
        wide = tiff(GREY.astype("<u2") * 257, photometric=0, orientation=turned)
        assert np.array_equal(shown(tmp_path, wide), UPRIGHT[turned](255 - GREY))
        signed = tiff(GREY, sample_format=2, orientation=turned)
        assert np.array_equal(shown(tmp_path, signed), UPRIGHT[turned](GREY.view(np.int8).astype(int) + 128))
    packed = bytes([0x00, 0x0F, 0xFF, 0x80, 0x04, 0x00]) * 2  # 0, 4095, 2048, 1024
    twelve = tiff(np.zeros((2, 4), np.uint16), raw=packed, bits=12)
    assert shown(tmp_path, twelve).tolist() == [[0, 255, 128, 64]] * 2  # 127.53 and 63.77
    for content in (tiff(GREY.astype("<i2"), sample_format=2), tiff(GREY.astype("<f4"), sample_format=3)):
        with pytest.raises(DataError, match="pixels of 32 bits, or signed ones of 16, whose value of white is unknown"):
            shown(tmp_path, content)
    with pytest.raises(DataError, match="a TIFF of a layout that is not read. Save it as PNG"):
        shown(tmp_path, tiff(COLOUR, photometric=2, sample_format=2))


def test_transparent_grey_pngs(tmp_path):
    hole = GREY.copy()
    hole[0, 2] = 255
    opaque = np.where(hole != GREY, 0, 255)
    wide = (GREY.astype("u2") * 257, 16, 0)
    assert np.array_equal(shown(tmp_path, png(*wide), "a.png"), GREY)
    assert np.array_equal(shown(tmp_path, png(*wide, transparent=[40 * 257]), "a.png"), hole)
    assert np.array_equal(shown(tmp_path, png(*wide, transparent=[40 * 257 + 1]), "a.png"), GREY)
    assert np.array_equal(shown(tmp_path, png(GREY, 8, 0, transparent=[40]), "a.png"), hole)
    for depth in (8, 16):
        both = np.stack([GREY, opaque], 2).astype("u2") * (257 if depth == 16 else 1)
        assert np.array_equal(shown(tmp_path, png(both, depth, 4), "a.png"), hole)  # one channel
    few = np.zeros((2, 4), np.uint8)
    for depth, raw, white in [(1, b"\x50\x50", [0, 255, 0, 255]), (2, b"\x1b\x1b", [0, 85, 170, 255])]:
        assert shown(tmp_path, png(few, depth, 0, raw=raw), "a.png").tolist() == [white] * 2
        holes = [255 if value == white[1] else value for value in white]
        assert shown(tmp_path, png(few, depth, 0, [1], raw), "a.png").tolist() == [holes] * 2
    assert shown(tmp_path, png(few, 4, 0, [2], b"\x01\x2f" * 2), "a.png").tolist() == [[0, 17, 255, 255]] * 2


def save_stack(path, count, start=0, size=(4, 3), **options):
    images = [Image.new("L", size, start + page) for page in range(count)]
    path.parent.mkdir(exist_ok=True, parents=True)
    images[0].save(path, save_all=True, append_images=images[1:], **options)
    return path


def test_pages_are_images(tmp_path):
    folder = tmp_path / "stacks"
    for index, part in enumerate(("a", "b", "b")):
        save_stack(folder / part / f"{index}.tif", 5 + index, 20 * index, compression="tiff_lzw" if index else None)
    save_stack(folder / "a/moving.gif", 9, 200)  # of an animation, the first frame
    data = load_user_data(folder)
    assert data.counts == {"all": 19} and "19 images from the pages of 4 files of 4 x 3 pixels, grey" in data.note
    values = [
        (round(x.max().item() * 255), int(k))
        for s in (data.train, data.validation, data.test)
        for x, k in zip(s.x[:], s.factors["class"], strict=True)
    ]
    assert sorted(values) == [
        *((v, 0) for v in range(5)),
        *((20 + v, 1) for v in range(6)),
        *((40 + v, 1) for v in range(7)),
        (200, 0),
    ]
    assert [page.max() for page in read_pages(folder / "b/1.tif")] == [*range(20, 26)]
    (folder / "b/1.tif").rename(tmp_path / "1.tif")
    assert load_user_data(folder).counts == {"all": 13}
    save_stack(folder / "a/other.tif", 2, size=(5, 5))
    with pytest.raises(DataError, match="differ in size: .*a/0.tif has 4 x 3 pixels, a/other.tif has 5 x 5"):
        load_user_data(folder)


def test_previews_and_masks_are_no_images(tmp_path):
    path = tmp_path / "a.tif"
    pages = [Image.new("L", (4, 3), 10), Image.new("L", (2, 2), 20), Image.new("L", (4, 3), 30)]
    kinds = [0, 1, 0]
    for page, kind in zip(pages, kinds, strict=True):
        page.encoderinfo = {"tiffinfo": {254: kind}}
    pages[0].save(path, save_all=True, append_images=pages[1:], tiffinfo={254: 0})
    with Image.open(path) as file:
        found = [page.tag_v2.get(254, 0) for page in ImageSequence.Iterator(file)]
    if found != kinds:
        pytest.skip("this version of Pillow writes no kinds of pages")
    assert count_pages(path) == 2
    assert [page.max() for page in read_pages(path)] == [10, 30]


def test_damaged_images_raise_our_errors_only(tmp_path):
    stack = save_stack(tmp_path / "s/s.tif", 4).read_bytes()
    packed = save_stack(tmp_path / "s/s.tif", 4, compression="tiff_lzw").read_bytes()
    alpha = np.stack([GREY, GREY], 2).astype("u2")
    kinds = {
        "tif": [stack, packed, tiff(GREY.astype("<u2"), photometric=0, orientation=6), tiff(GREY, sample_format=2)],
        "png": [png(GREY.astype("u2"), 16, 0, [40]), png(alpha, 16, 4), png(GREY, 2, 0, [1], b"\x1b" * 3)],
    }
    random, read, tried = np.random.default_rng(0), 0, 0
    for suffix, contents in kinds.items():
        for content in contents * 60:
            damaged = bytearray(content)
            for place in random.integers(len(damaged), size=random.integers(1, 4)):
                damaged[place] = random.integers(256)
            damaged = damaged[: None if random.random() < 0.8 else random.integers(len(damaged))]
            folder = tmp_path / "broken"
            folder.mkdir(exist_ok=True)
            for old in folder.iterdir():
                old.unlink()
            (folder / f"a.{suffix}").write_bytes(damaged)
            tried += 1
            try:
                assert len([*read_pages(folder / f"a.{suffix}")]) == count_pages(folder / f"a.{suffix}")
                read += 1
            except (DataError, ConfigError):
                pass
    assert tried == 420 and 20 < read < 400


def test_a_long_stack_keeps_the_order_of_its_pages(tmp_path):
    path = save_stack(tmp_path / "long/a.tif", 250)
    assert torch.equal(torch.tensor([int(page.max()) for page in read_pages(path)]), torch.arange(250))


def test_a_stack_is_a_data_set_by_itself(tmp_path):
    path = save_stack(tmp_path / "stack.tif", 20)
    alone, folder = load_user_data(path), load_user_data(path.parent)
    assert torch.equal(alone.train.x[:], folder.train.x[:]) and len(alone.train) == 16
    assert "20 images from the pages of one file" in alone.note and "not used" not in alone.note
    with pytest.raises(DataError, match="is a single image. Name the folder"):
        load_user_data(save_stack(tmp_path / "one.tif", 1))


def broken_png(side, *chunks):
    """A PNG file of grey pixels that ends where the chunks end, each with its stated length."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return content + b"".join(struct.pack(">I", length) + body for length, body in chunks)


def test_a_small_file_that_states_a_large_size_takes_no_memory(tmp_path):
    pixels = zlib.compress(bytes(9 * 8))
    (tmp_path / "a.png").write_bytes(broken_png(9_000, (len(pixels), b"IDAT" + pixels)))
    (tmp_path / "b.png").write_bytes(broken_png(8, (2**30, b"IDAT" + pixels)))
    tracemalloc.start()
    try:
        with pytest.raises(
            DataError, match=r"'the image' of .*a.png says that it has shape \(9000, 9000, 1\).*made to fill memory"
        ):
            read_image(tmp_path / "a.png")
        with contextlib.suppress(DataError):
            read_image(tmp_path / "b.png")
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()
    Image.new("L", (4_500, 4_500)).save(tmp_path / "c.png")  # whatever packs a photo of this size
    assert read_image(tmp_path / "c.png").shape == (1, 4_500, 4_500)
