"""Reads motions from Acclaim's .amc text files."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from pyro_hvae.errors import DataError

DIGITS = 20  # of the number of a frame, at most


def read_motion(content: bytes, skeleton: Mapping[str, Sequence[str]], name: str) -> np.ndarray:
    """The frames of an .amc file, shape (n, channels): the skeleton's degrees of freedom in its order, angles in degrees.

    Arguments:
        content: of the file.
        skeleton: bone -> its degrees of freedom, as `Skeleton.dof`. Every frame gives all of them, in any order.
        name: of the file, for errors.

    Raises:
        DataError: naming the file and the broken line.

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
                raise broken(number, f"'{bone}' has a value that is not a number: {' '.join(values)!r}") from None
            place = places[bone]
            if len(angles) != place.stop - place.start or not all(map(math.isfinite, angles)):
                raise broken(number, f"'{bone}' needs {place.stop - place.start} finite numbers, not {' '.join(values)!r}")
            rows[-1][place] = angles
        elif bone.isdecimal() and len(bone) < DIGITS and not values:
            if missing:
                raise broken(number, f"frame {frame} ends without {', '.join(sorted(missing))}")
            # A gap would hide full turns of an angle.
            if frame is not None and int(bone) != frame + 1:
                raise broken(number, f"frame {bone} follows frame {frame}")
            frame, missing = int(bone), set(places)
            rows.append([math.nan] * starts[-1])
        elif bone == ":RADIANS":
            raise broken(number, "angles are in radians, but degrees are expected")
        elif bone and bone[0] not in "#:":
            raise broken(
                number, f"'{bone}' is not expected here: it is not a bone of the skeleton, outside the frames, or given twice"
            )
    if missing or not rows:
        raise broken(number, f"the file ends without {', '.join(sorted(missing)) or 'any frame'}")
    return np.array(rows)
