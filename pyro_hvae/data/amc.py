"""Reads motion capture in Acclaim's ASF (skeleton) and AMC (motion) text files, from a folder or out of a tar archive."""

import math
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from pyro_hvae.data.files import read_checked
from pyro_hvae.errors import DataError

__all__ = ["Skeleton", "read_skeleton", "read_motion", "read_members"]

Skeleton = dict[str, tuple[str, ...]]
"""Bone -> its degrees of freedom in the order of the file, the root first."""


def read_skeleton(content: bytes, name: str) -> Skeleton:
    """The bones of an .asf file that can move and how; lengths, limits and hierarchy are passed over.

    Arguments:
        content: the file.
        name: what to call it in an error.

    Raises:
        DataError: when no root or no bone with degrees of freedom is found.

    >>> text = b":root\\n order TX RX\\n:bonedata\\n begin\\n name lfemur\\n dof rx ry\\n end\\n:hierarchy"
    >>> read_skeleton(text, "01.asf")
    {'root': ('tx', 'rx'), 'lfemur': ('rx', 'ry')}
    """
    section, bone, skeleton = "", "", Skeleton()
    for line in content.decode("ascii", errors="replace").splitlines():
        words = line.split()
        if not words:
            continue
        if words[0].startswith(":"):
            section = words[0]
        elif section == ":root" and words[0] == "order":
            skeleton["root"] = tuple(word.lower() for word in words[1:])
        elif section == ":bonedata" and words[0] == "name":
            bone = words[-1]
        elif section == ":bonedata" and words[0] == "dof":
            skeleton[bone] = tuple(word.lower() for word in words[1:])
    if "root" not in skeleton or len(skeleton) == 1:
        raise DataError(f"{name} has no root or no movable bone: it is no .asf skeleton. Replace it by the original.")
    return skeleton


def read_motion(content: bytes, skeleton: Skeleton, name: str) -> np.ndarray:
    """The frames of an .amc file, shape (n, channels): the skeleton's degrees of freedom in its order, angles in degrees.

    Arguments:
        content: the file.
        skeleton: the subject's bones; every frame has to give all of them, in any order.
        name: what to call the file in an error.

    Raises:
        DataError: naming the file and the line that is broken.

    >>> skeleton = {"root": ("tx", "rx"), "head": ("rx",)}
    >>> read_motion(b":DEGREES\\n1\\nroot 1 2\\nhead 3\\n2\\nhead 6\\nroot 4 5\\n", skeleton, "01_01.amc")
    array([[1., 2., 3.],
           [4., 5., 6.]])
    """

    def broken(number: int, why: str) -> DataError:
        return DataError(f"{name}, line {number}: {why}. Replace the file by the original.")

    starts = np.cumsum([0, *map(len, skeleton.values())]).tolist()
    places = {bone: slice(start, start + len(dof)) for (bone, dof), start in zip(skeleton.items(), starts, strict=False)}
    rows: list[list[float]] = []
    frame, missing, number = None, set(), 0
    for number, line in enumerate(content.decode("ascii", errors="replace").splitlines(), 1):
        bone, *values = line.split() or [""]
        if bone in missing:
            missing.remove(bone)
            try:
                angles = [float(value) for value in values]
            except ValueError:
                raise broken(number, f"'{bone}' with something that is no number, {' '.join(values)!r}") from None
            place = places[bone]
            if len(angles) != place.stop - place.start or not all(map(math.isfinite, angles)):
                raise broken(number, f"'{bone}' needs {place.stop - place.start} finite numbers, not {' '.join(values)!r}")
            rows[-1][place] = angles
        elif bone.isdecimal() and not values:
            if missing:
                raise broken(number, f"frame {frame} ends without {', '.join(sorted(missing))}")
            # A gap would hide how often an angle went round in between.
            if frame is not None and int(bone) != frame + 1:
                raise broken(number, f"frame {bone} follows on frame {frame}")
            frame, missing = int(bone), set(places)
            rows.append([math.nan] * starts[-1])
        elif bone == ":RADIANS":
            raise broken(number, "angles in radians, where degrees are expected")
        elif bone and bone[0] not in "#:":
            raise broken(number, f"'{bone}' has no place here: no bone of the skeleton, outside the frames, or given twice")
    if missing or not rows:
        raise broken(number, f"the file ends without {', '.join(sorted(missing)) or 'any frame'}")
    return np.array(rows)


def read_members(path: Path, names: Iterable[str]) -> dict[str, bytes]:
    """The content of the named files in a folder or a tar archive, which is never unpacked to disk.

    Arguments:
        path: the archive, or the folder that was archived.
        names: the members wanted, each beginning with the folder's own name, as in "subjects/02/02_01.amc". All others
            stay unread, whatever they are called.

    Raises:
        DataError: when one is missing or no regular file, or the archive is corrupt.
    """
    wanted = dict.fromkeys(names)
    if path.is_dir():
        return {name: read_checked(path.parent / name) for name in wanted}
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:  # in the archive's order: going back would mean decompressing from the start
                if member.name in wanted and member.isfile():
                    stream = archive.extractfile(member)
                    assert stream is not None  # it is None only for what is no file
                    found[member.name] = stream.read()
                if len(found) == len(wanted):
                    break
    # The decompressors' own errors (lzma.LZMAError, zlib.error) have only Exception in common, and lzma may be absent.
    except Exception as error:
        raise DataError(f"{path} cannot be read as a tar archive: {error}. Replace it by the original.") from error
    if absent := [name for name in wanted if name not in found]:
        raise DataError(
            f"{path} lacks the file(s) {', '.join(absent)}. Add them from mocap.cs.cmu.edu or choose other motions."
        )
    return found
