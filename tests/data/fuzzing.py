"""Damaged files for every reader: `python tests/data/fuzzing.py --count 20000 --seed 0` prints what each reader made of them.

Valid files of each kind are made here and damaged: bits, cuts, insertions, exchanged blocks, numbers. A file with a checksum is
also damaged inside and packed anew. A worker process reads them; input i of a seed is always the same. A reader may return or
raise an error of the package; anything else is a finding: another error, more than `TIME` seconds, more than `MEMORY` bytes, or
the end of the process, unless the HDF5 library is where it ended or hung.
"""

import argparse
import contextlib
import gzip
import io
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import traceback
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

TIME, MEMORY, PATIENCE = 10, 2**29, 60  # seconds for an input, bytes above what is held before, seconds without any answer
HDF5 = ("hdf5", "mat 7.3", "h5ad")  # the C library below them ends or hangs on some files, which no code of ours can prevent
ROOM = 2**31  # bytes that a worker may take above what it holds after its imports
NUMBERS = (0, 1, 2, 127, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)
TEXTS = (b"0", b"-1", b"99999999999", b"1e999", b"nan", b"", b"1e-400", b"4294967296", b"9" * 5000, b"1.5", b"x")


@dataclass
class Reader:
    """A reader with valid files.

    Attributes:
        name: of the file that it is given.
        read: takes its path.
        seeds: valid contents.
        packed: contents with the function that packs them: damaged inside, with sums that hold.
        beside: other files in the folder.
    """

    name: str
    read: Callable[[Path], object]
    seeds: list[bytes]
    packed: list[tuple[bytes, Callable[[bytes], bytes]]] = field(default_factory=list)
    beside: dict[str, bytes] = field(default_factory=dict)


def damage(content: bytes, random) -> bytes:
    """The content with one to four damages, mostly one."""
    data = bytearray(content)
    for _ in range(min(4, random.geometric(0.6))):
        if not data:
            break
        # Half of all damage is near the start, where headers are.
        end = len(data) if random.random() < 0.5 else min(len(data), 256)
        place = int(random.integers(end))
        match int(random.integers(9)):
            case 0:
                data[place] ^= 1 << int(random.integers(8))
            case 1:
                data[place] = int(random.integers(256))
            case 2:
                if random.random() < 0.5:
                    del data[place:]
            case 3:
                data[place:place] = random.bytes(int(random.integers(1, 20)))
            case 4:
                del data[place : place + int(random.integers(1, 64))]
            case 5:
                other, size = int(random.integers(len(data))), int(random.integers(1, 64))
                one, two = data[place : place + size], data[other : other + size]
                data[place : place + size], data[other : other + size] = two, one
            case 6:
                data[place:place] = data[place : place + int(random.integers(1, 500))]
            case 7:
                size, number = int(random.choice([1, 2, 4, 8])), NUMBERS[int(random.integers(len(NUMBERS)))]
                number %= 256**size
                data[place : place + size] = number.to_bytes(size, "little" if random.random() < 0.5 else "big")
            case 8:
                if found := [*re.finditer(rb"\d+", bytes(data[: 2**14]))]:
                    one = found[int(random.integers(len(found)))]
                    data[one.start() : one.end()] = TEXTS[int(random.integers(len(TEXTS)))]
    return bytes(data)


def load(path: Path) -> None:
    from pyro_hvae.data.sets.user_data import load_user_data

    data = load_user_data(path)
    for part in (data.train, data.validation, data.test):
        assert part.x[:3].shape[1:] == data.shape


def make_readers() -> dict[str, Reader]:
    """All readers by name; those of extras that are missing are left out."""
    import numpy as np
    import torch
    from PIL import Image
    from scipy.io import savemat

    from pyro_hvae.data.files.amc_motion import read_motion
    from pyro_hvae.data.files.archives import read_members
    from pyro_hvae.data.files.array_cache import cache_array
    from pyro_hvae.data.files.asf_skeleton import read_skeleton
    from pyro_hvae.data.files.image_reader import count_pages, read_pages
    from pyro_hvae.data.sets.mnist import read_idx
    from pyro_hvae.runs.checkpoint_content import read_checkpoint
    from pyro_hvae.runs.checkpoints import save_checkpoint
    from pyro_hvae.runs.experiment import Experiment, read_toml
    from pyro_hvae.runs.run_directory import RunDirectory

    random = np.random.default_rng(0)
    x, images = random.normal(size=(12, 5)).astype(np.float32), random.integers(0, 256, (12, 6, 7), dtype=np.uint8)
    labels = np.arange(12) % 3
    readers: dict[str, Reader] = {}

    def written(write: Callable[[io.BytesIO], object]) -> bytes:
        write(stream := io.BytesIO())
        return stream.getvalue()

    def at_path(name: str, write: Callable[[Path], object]) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            write(path := Path(folder, name))
            return path.read_bytes()

    def zipped(name: str, kind: int = zipfile.ZIP_DEFLATED) -> Callable[[bytes], bytes]:
        def pack(content: bytes) -> bytes:
            with zipfile.ZipFile(stream := io.BytesIO(), "w", kind) as archive:
                archive.writestr(name, content)
            return stream.getvalue()

        return pack

    npy = [written(lambda f, a=a: np.save(f, a)) for a in (x, images, images > 99, x.astype(">f8"), labels)]
    readers["npy"] = Reader("a.npy", load, npy)
    arrays = {"x": x, "y": labels, "feature_names": np.array(list("abcde"))}
    npz = [written(lambda f: np.savez(f, **arrays)), written(lambda f: np.savez_compressed(f, images=images, y=labels))]
    readers["npz"] = Reader("a.npz", load, npz, [(content, zipped("x.npy", kind)) for content in npy for kind in (0, 8)])
    rows = "".join(f"{i},{a:.4f},{'red' if i % 2 else 'blue'},2024-01-{i + 1:02},{i % 3}\n" for i, a in enumerate(x[:, 0]))
    csv = ("id,size,colour,day,class\n" + rows).encode()
    wide = csv.decode().replace(",", ";").replace(".", ",").encode("utf-16")
    readers["csv"] = Reader("a.csv", load, [csv, wide, b'a,"b, c"\n1,"2"\n3,4\n5,6\n7,8\n'])
    readers["tsv"] = Reader("a.tsv", load, [csv.replace(b",", b"\t")])
    readers["csv.gz"] = Reader("a.csv.gz", load, [gzip.compress(csv)], [(csv, gzip.compress), (wide, gzip.compress)])
    idx = [b"\0\0\x08\3" + np.array(images.shape, ">u4").tobytes() + images.tobytes()]
    idx += [b"\0\0\x0d\2" + np.array(x.shape, ">u4").tobytes() + x.astype(">f4").tobytes()]
    readers["idx"] = Reader("a.idx", load, idx)
    readers["idx.gz"] = Reader("a.idx.gz", load, [*map(gzip.compress, idx)], [(content, gzip.compress) for content in idx])
    readers["mnist's idx"] = Reader("b.idx", lambda path: read_idx(path.read_bytes(), path), idx)
    held = {"x": x, "y": labels, "names": ["a", "bc"], "cell": np.array([1, "a"], dtype=object), "s": {"a": 1}}
    mat = [written(lambda f, c=c: savemat(f, held, do_compression=c)) for c in (False, True)]
    element = mat[0][128:]  # all elements of an uncompressed file

    def compressed(content: bytes) -> bytes:
        body = zlib.compress(content)
        return mat[0][:128] + np.array([15, len(body)], "<u4").tobytes() + body

    readers["mat"] = Reader("a.mat", load, mat, [(element, compressed)])
    with contextlib.suppress(ImportError):
        import h5py

        def hdf5(path: Path, **how) -> None:
            with h5py.File(path, "w", **how) as file:
                file.create_dataset("x", data=x, chunks=(5, 5), compression="gzip" if not how else None)
                file["y"] = labels
                file["g/images"] = images
                file["names"] = np.array(["a", "b"], dtype=h5py.string_dtype())

        def mat_73(path: Path) -> None:
            with h5py.File(path, "w", userblock_size=512) as file:
                file["x"] = x.T
                file["x"].attrs["MATLAB_class"] = np.bytes_("single")
                file["y"] = labels[None]
            with path.open("r+b") as file:
                file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM")

        contents = [at_path("a.h5", hdf5), at_path("a.h5", lambda path: hdf5(path, libver="latest"))]
        readers["hdf5"] = Reader("a.h5", load, contents)
        readers["mat 7.3"] = Reader("b.mat", load, [at_path("b.mat", mat_73)])
    with contextlib.suppress(ImportError):
        import pyarrow
        import pyarrow.parquet

        table = pyarrow.table(
            {"a": x[:, 0], "n": [*range(11), None], "k": ["p", "q"] * 6, "l": [[1.0, 2.0]] * 12, "class": labels}
        )
        how = ({}, {"compression": "none", "use_dictionary": False, "data_page_version": "2.0"}, {"compression": "gzip"})
        contents = [at_path("a.parquet", lambda path, h=h: pyarrow.parquet.write_table(table, path, **h)) for h in how]
        readers["parquet"] = Reader("a.parquet", load, contents)
    with contextlib.suppress(ImportError):
        import anndata
        import pandas
        from scipy import sparse

        names = [str(i) for i in range(12)]
        obs = pandas.DataFrame({"kind": pandas.Categorical(["p", "q"] * 6), "n": labels, "t": names}, index=names)
        variables = pandas.DataFrame(index=list("abcde"))
        cells = [
            anndata.AnnData(kind(np.abs(x).round()), obs, variables, layers={"log": x})
            for kind in (sparse.csr_matrix, sparse.csc_matrix, np.array)
        ]
        contents = [at_path("a.h5ad", lambda path, c=c: c.write_h5ad(path)) for c in cells]
        readers["h5ad"] = Reader("a.h5ad", load, contents)

    def read_picture(path: Path) -> None:
        assert len([*read_pages(path)]) == count_pages(path)

    grey, colour = Image.fromarray(images[0]), Image.fromarray(random.integers(0, 256, (9, 8, 3), dtype=np.uint8))
    pictures = [
        grey,
        colour,
        colour.convert("P"),
        colour.convert("RGBA"),
        grey.convert("1"),
        Image.fromarray(np.uint16(images[0])),
    ]
    png = [written(lambda f, p=p: p.save(f, "PNG")) for p in pictures]

    def seal_png(content: bytes) -> bytes:
        out, at = content[:8], 8
        while at + 8 <= len(content):
            size = min(int.from_bytes(content[at : at + 4], "big"), len(content) - at - 8)
            chunk = content[at + 4 : at + 8 + size]
            out, at = out + content[at : at + 4] + chunk + zlib.crc32(chunk).to_bytes(4, "big"), at + 12 + size
        return out

    readers["png"] = Reader("a.png", read_picture, png, [(content, seal_png) for content in png])
    jpeg = [written(lambda f, p=p: p.save(f, "JPEG")) for p in (grey, colour, colour.convert("CMYK"))]
    readers["jpeg"] = Reader("a.jpg", read_picture, jpeg)
    tiff = [written(lambda f, p=p, c=c: p.save(f, "TIFF", compression=c)) for p in pictures for c in (None, "tiff_lzw")]
    tiff += [written(lambda f: grey.save(f, "TIFF", save_all=True, append_images=[grey, grey]))]
    readers["tiff"] = Reader("a.tif", read_picture, tiff)
    others = {"GIF": grey, "BMP": colour, "PPM": colour, "WEBP": colour}
    readers["gif, bmp, ppm, webp"] = Reader(
        "a.gif", read_picture, [written(lambda f, k=k, p=p: p.save(f, k)) for k, p in others.items()]
    )
    folder = {f"{i}.png": png[0] for i in range(4)}
    readers["folder of images"] = Reader("5.png", lambda path: load(path.parent), [png[0]], [(png[0], seal_png)], folder)

    def unpack(path: Path) -> None:
        for _ in read_members(path, lambda name: True, 2**20, 2**22):
            pass

    def tar(mode: str) -> bytes:
        def write(stream: io.BytesIO) -> None:
            with tarfile.open(fileobj=stream, mode=mode) as archive:
                for name in ("a.txt", "b/c.txt"):
                    member = tarfile.TarInfo(name)
                    member.size = len(csv)
                    archive.addfile(member, io.BytesIO(csv))

        return written(write)

    readers["zip"] = Reader("a.zip", unpack, [zipped("a.txt")(csv), zipped("a.txt", 0)(csv)])
    readers["tar"] = Reader(
        "a.tar", unpack, [tar(mode) for mode in ("w:", "w:gz", "w:xz", "w:bz2")], [(tar("w:"), gzip.compress)]
    )
    asf = (
        b":units\n length 0.45\n:root\n order TX TY TZ RX RY RZ\n axis XYZ\n:bonedata\n begin\n name head\n direction 0 1 0\n"
        b" length 9\n axis 0 0 20 XYZ\n dof rx rz\n end\n:hierarchy\n begin\n root head\n end\n"
    )
    amc = (":DEGREES\n" + "".join(f"{i}\nroot 0 0 {i} 1 2 {i * 9}\nhead {i * i} 3\n" for i in range(1, 20))).encode()
    readers["asf"] = Reader("a.asf", lambda path: read_skeleton(path.read_bytes(), str(path)), [asf])
    dof = read_skeleton(asf, "a.asf").dof
    readers["amc"] = Reader("a.amc", lambda path: read_motion(path.read_bytes(), dof, str(path)), [amc])
    readers["amc and asf"] = Reader("a.asf", lambda path: load(path.with_name("a.amc")), [asf], beside={"a.amc": amc})
    bvh = (
        "HIERARCHY\nROOT Hips\n{\n OFFSET 0 0 0\n CHANNELS 4 Xposition Zrotation Xrotation Yrotation\n JOINT Head\n {\n"
        "  OFFSET 0 1 0\n  CHANNELS 1 Xrotation\n  End Site\n  {\n   OFFSET 0 1 0\n  }\n }\n}\n"
        "MOTION\nFrames: 20\nFrame Time: 0.01\n" + "".join(f"0 {i} 1 2 {i * 3.5 + 1}\n" for i in range(20))
    ).encode()
    readers["bvh"] = Reader("a.bvh", load, [bvh])

    zeros = torch.zeros(2)
    program = {"weight": torch.ones(3, 2), "bias": zeros}
    moments = {"step": torch.tensor(3.0), "exp_avg": zeros, "exp_avg_sq": zeros}
    content = {
        "stage": 0,
        "step": 3,
        "steps": 9,
        "lengths": [9],
        "programs": [{"model": program, "guide": {}}],
        "session": {
            "t": 3,
            "optimizer": {"state": {0: moments}, "param_groups": [{"params": [0]}]},
            "schedule": {},
            "batches": {"generator": torch.get_rng_state()[:8], "position": 0},
        },
        "rng": {"torch": zeros, "cuda": [], "numpy": [1, "a"], "python": [1]},
        "best": 1.5,
        "config": {"seed": 1},
    }
    sealed = at_path("a.pt", lambda path: save_checkpoint(path, content))
    with zipfile.ZipFile(io.BytesIO(sealed)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}

    def repack(pickled: bytes) -> bytes:
        with zipfile.ZipFile(stream := io.BytesIO(), "w") as archive:
            for name, held in members.items():
                archive.writestr(name, pickled if name.endswith("data.pkl") else held)
        return stream.getvalue()

    pickled = next(held for name, held in members.items() if name.endswith("data.pkl"))
    readers["checkpoint"] = Reader("last.pt", read_checkpoint, [sealed], [(pickled, repack)])
    toml = (
        b'recipe = "vae"\ndataset = "digits"\nschedule = "constant"\n[train]\nsteps = 100\nlr = 1e-3\nseed = 0\n'
        b"[recipe_options]\nhidden = [10, 20]\n[data_options]\n[standardization]\nmean = [1.0]\nscale = [2.0]\n"
    )
    readers["config.toml"] = Reader("config.toml", lambda path: Experiment.from_dict(read_toml(path)), [toml])
    run = json.dumps({"status": "done", "seed": 0, "versions": {"torch": "2"}, "best": None}).encode()
    source = json.dumps({"source": "ab", "settings": {"model": {"": "Chain"}, "guide": {"a.b": 1}}}).encode()
    readers["run.json"] = Reader("run.json", lambda path: RunDirectory(path.parent).read_json("run.json"), [run])
    readers["program.json"] = Reader("program.json", lambda path: RunDirectory(path.parent).read_json("program.json"), [source])
    metric = b"".join(json.dumps({"step": i, "loss": 1.5, "rate.z1": None}).encode() + b"\n" for i in range(9))
    readers["metrics.jsonl"] = Reader("metrics.jsonl", lambda path: RunDirectory(path.parent).rows(), [metric])

    def fill(array: np.ndarray) -> None:
        array[:] = images

    def through_cache(path: Path) -> None:
        """A damaged file of the cache is made anew."""
        cache_array("fuzzed", [], images.shape, fill, content="x")
        (file,) = Path(os.environ["PYRO_HVAE_CACHE"]).glob("fuzzed-*.npy")
        file.write_bytes(path.read_bytes())
        assert np.array_equal(cache_array("fuzzed", [], images.shape, fill, content="x").numpy(), images)

    def cached(path: Path) -> None:
        os.environ["PYRO_HVAE_CACHE"] = str(path.parent / "cache")
        cache_array("fuzzed", [], images.shape, fill, content="x")
        shutil.move(next(path.parent.glob("cache/fuzzed-*.npy")), path)

    before = os.environ.get("PYRO_HVAE_CACHE")
    readers["file of the cache"] = Reader("a.npy", through_cache, [at_path("a.npy", cached)])
    os.environ["PYRO_HVAE_CACHE"] = before or ""
    return readers


def make_input(readers: dict[str, Reader], seed: int, number: int) -> tuple[str, bytes]:
    """The name of the reader and the content of input `number`."""
    import numpy as np

    random = np.random.default_rng([seed, number])
    name = [*readers][number % len(readers)]
    reader = readers[name]
    if reader.packed and random.random() < 0.6:
        content, pack = reader.packed[int(random.integers(len(reader.packed)))]
        return name, pack(damage(content, random))
    return name, damage(reader.seeds[int(random.integers(len(reader.seeds)))], random)


def _status(key: str) -> int:
    return int(re.search(rf"{key}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024  # pyright: ignore


class _TooLong(BaseException):
    pass


def _stop(*_: object) -> None:
    raise _TooLong


def judge(reader: Reader, path: Path) -> str:
    """What a reader made of a file: "read", "refused", or a finding in words."""
    from pyro_hvae.errors import HVAEError

    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak of memory starts anew
    held = _status("VmRSS")
    signal.alarm(TIME)
    try:
        reader.read(path)
        verdict = "read"
    except HVAEError as error:
        verdict, cause = "refused", error
        while cause := cause.__cause__ or cause.__context__:
            verdict = "MemoryError" if isinstance(cause, MemoryError) else verdict
    except _TooLong:
        verdict = f"more than {TIME} s"
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        verdict = f"{type(error).__name__} in {Path(frame.filename).name}:{frame.lineno}: {str(error)[:80]}"
    finally:
        signal.alarm(0)
    taken = _status("VmHWM") - held
    return verdict if taken < MEMORY else f"{taken / 2**20:,.0f} MiB"


def work(seed: int, numbers: range, out=sys.stdout) -> None:
    """Judges inputs one by one and prints a line for each."""
    warnings.simplefilter("ignore")
    readers = make_readers()
    soft = _status("VmSize") + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (soft, resource.getrlimit(resource.RLIMIT_AS)[1]))
    signal.signal(signal.SIGALRM, _stop)
    for number in numbers:
        name, content = make_input(readers, seed, number)
        with tempfile.TemporaryDirectory() as folder:
            os.environ["PYRO_HVAE_CACHE"] = str(Path(folder, "cache"))
            place = Path(folder, "files")
            place.mkdir()
            for other, held in readers[name].beside.items():
                (place / other).write_bytes(held)
            (path := place / readers[name].name).write_bytes(content)
            print(number, name, 0, "begun", sep="\t", file=out, flush=True)
            started = time.monotonic()
            verdict = judge(readers[name], path).replace(folder, "").replace("\n", " ")
            print(number, name, f"{time.monotonic() - started:.3f}", verdict, sep="\t", file=out, flush=True)


def _kill_later(worker: subprocess.Popen[str]) -> threading.Timer:
    timer = threading.Timer(PATIENCE, worker.kill)
    timer.start()
    return timer


def run(count: int, seed: int, start: int = 0) -> tuple[dict[str, Counter[str]], list[str], float]:
    """Verdicts by reader, all findings, and the longest time in seconds. A worker that dies is replaced."""
    counts: dict[str, Counter[str]] = {}
    findings, slowest = [], 0.0
    while start < count:
        command = [sys.executable, __file__, "--work", "--seed", str(seed), "--start", str(start), "--count", str(count)]
        with tempfile.TemporaryFile("w+") as errors:
            worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
            assert worker.stdout
            guard, number, name = _kill_later(worker), str(start), "no reader"
            for line in worker.stdout:
                guard.cancel()
                guard = _kill_later(worker)
                number, name, seconds, verdict = line.rstrip("\n").split("\t", 3)
                if verdict == "begun":
                    continue
                kind = verdict if verdict in ("read", "refused") else "finding"
                counts.setdefault(name, Counter())[kind] += 1
                if kind == "finding":
                    findings.append(f"{number} {name}: {verdict}")
                start, slowest = int(number) + 1, max(slowest, float(seconds))
            guard.cancel()
            worker.stdout.close()
            if worker.wait() and start < count:
                errors.seek(0)
                ended = f"{number} {name}: the process ended with {worker.returncode}. {errors.read()[-300:]}"
                if name == "no reader":
                    raise RuntimeError(ended)
                counts.setdefault(name, Counter())["outside" if name in HDF5 else "finding"] += 1
                findings += [] if name in HDF5 else [ended]
                start = int(number) + 1
    return counts, findings, slowest


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", action="store_true", help="read in this process, and print a line for each input")
    options = parser.parse_args()
    if options.work:
        work(options.seed, range(options.start, options.count))
        return 0
    started = time.monotonic()
    counts, findings, slowest = run(options.count, options.seed, options.start)
    print(f"{'reader':22}{'tried':>8}{'read':>8}{'refused':>9}{'findings':>10}{'in HDF5':>9}")
    for name, kinds in counts.items():
        print(f"{name:22}{kinds.total():8}{kinds['read']:8}{kinds['refused']:9}{kinds['finding']:10}{kinds['outside']:9}")
    print(*findings, sep="\n")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{options.count - options.start} inputs of seed {options.seed} in {time.monotonic() - started:.0f} s.")
    print(f"The slowest took {slowest:.1f} s; the largest process had {peak:.0f} MiB.")
    return bool(findings)


if __name__ == "__main__":
    sys.exit(main())
