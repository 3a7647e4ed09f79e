"""Rooms: a replacement for 3D Shapes (Burgess and Kim 2018), an object in a room with six independent factors.

The original is a file of 480,000 renderings whose generator was not published. Ours has its factors, their values and their
order, and a scene modelled on its picture: a ray-cast square room without a ceiling, walls and floor of one hue each, an
object upright in the middle, seen from slightly above. Sizes, camera and light are guesses, so pixels differ from the
original. Hues only colour a scene, so an image is a sum over materials

    image = sum_m weight_m(shape, scale, orientation) * colour_m(floor hue, wall hue, object hue)

and only the weights of the 480 geometries are ray-cast, each at its first use.
"""

import colorsys
import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from pyro_hvae.data.dataset import Dataset, FactorGrid
from pyro_hvae.data.option_checks import check_names, check_side
from pyro_hvae.data.rows import Drawn, Rows
from pyro_hvae.errors import ConfigError

FACTORS = {"floor_hue": 10, "wall_hue": 10, "object_hue": 10, "scale": 8, "shape": 4, "orientation": 15}
"""The factors and the number of their values, in the original's order."""

SIZE = 64  # pixels
RAYS = 4  # rays per pixel along either axis
SHAPES = {"cube": (0.85, 1.7), "cylinder": (0.9, 1.9), "sphere": (1.05, 2.1), "capsule": (0.75, 2.4)}
"""Radius (or half the width) and height of the objects at scale 1, in the original's order."""

# The room: y points up, the object stands at the origin, the walls are |x| = WALL and |z| = WALL up to HEIGHT.
WALL, HEIGHT = 4.5, 2.9
# The camera: distance from the axis, height above the floor, height of the point it looks at, angle of view.
DISTANCE, ELEVATION, AIM, VIEW = 7.0, 3.0, 1.0, math.radians(45)
LAMP, BREADTH, AMBIENT, DIFFUSE = np.array([0.0, 8.5, 4.5]), 2.0, 0.4, 0.6
GLOSS, SHARPNESS = 0.35, 40.0
HORIZON, ZENITH = (1.0, 1.0, 1.0), (0.35, 0.62, 0.95)  # colours of the sky; reflected light has that of HORIZON
FLOOR, WALLS, OBJECT, LIGHT, BLUE = range(5)  # materials

_INDEX = np.arange(SIZE * RAYS)
_SHUFFLE = np.array([1, 3, 0, 2])  # order of the lamp's parts for a pixel's rays; mirrored rays see mirrored parts


def _camera_rays(degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """Position of the camera (3, 1) and directions of all rays (3, rays), row by row."""
    place = ((_INDEX + 0.5) * 2 / _INDEX.size - 1) * math.tan(VIEW / 2)
    x, y = (axis.ravel() for axis in np.meshgrid(place, -place))
    down = math.atan2(ELEVATION - AIM, DISTANCE)
    away = math.cos(down) + y * math.sin(down)
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    rays = np.stack([x * cosine - away * sine, y * math.cos(down) - math.sin(down), -x * sine - away * cosine])
    return np.array([[DISTANCE * sine], [ELEVATION], [DISTANCE * cosine]]), rays


def _intersect_slab(start: np.ndarray, ray: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Distances along rays where they enter and leave low < coordinate < high."""
    first, second = (low - start) / ray, (high - start) / ray
    return np.minimum(first, second), np.maximum(first, second)


def _intersect_round(start: np.ndarray, ray: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Distances where rays enter and leave a ball (3 coordinates) or infinite cylinder (2) about the origin; NaN if never."""
    a, b, c = (ray * ray).sum(0), (start * ray).sum(0), (start * start).sum(0) - radius**2
    root = np.sqrt(b * b - a * c)
    return (-b - root) / a, (-b + root) / a


def _find_entry(shape: str, scale: float, start: np.ndarray, ray: np.ndarray) -> np.ndarray:
    """Distances at which rays (3, n) from points (3, n) or (3, 1) enter the object, in lengths of the rays; inf if never."""
    radius, height = (scale * length for length in SHAPES[shape])
    with np.errstate(invalid="ignore", divide="ignore"):
        if shape in ("sphere", "capsule"):
            ends = (start - [[0], [y], [0]] for y in (radius, height - radius))
            parts = [[_intersect_round(end, ray, radius)] for end in ends]
            side = _intersect_round(start[::2], ray[::2], radius)
            parts.append([side, _intersect_slab(start[1], ray[1], radius, height - radius)])
        elif shape == "cylinder":
            parts = [[_intersect_round(start[::2], ray[::2], radius), _intersect_slab(start[1], ray[1], 0.0, height)]]
        else:
            sides = [(-radius, radius), (0.0, height), (-radius, radius)]
            parts = [[_intersect_slab(start[axis], ray[axis], *side) for axis, side in enumerate(sides)]]
        # A part lies between all its pairs of surfaces. The object is the union of its parts.
        spans = [(np.maximum.reduce([p[0] for p in part]), np.minimum.reduce([p[1] for p in part])) for part in parts]
        return np.minimum.reduce([np.where((enter < leave) & (enter > 0), enter, np.inf) for enter, leave in spans])


def _surface_normals(shape: str, scale: float, point: np.ndarray) -> np.ndarray:
    """Unit normals (3, n) at points (3, n) of the object's surface."""
    radius, height = (scale * length for length in SHAPES[shape])
    x, y, z = point
    if shape in ("sphere", "capsule"):
        return np.stack([x, y - np.clip(y, radius, height - radius), z]) / radius
    middle = y - height / 2
    if shape == "cylinder":
        side = np.hypot(x, z) / radius > abs(middle) * 2 / height
        return np.stack([x * side / radius, np.sign(middle) * ~side, z * side / radius])
    faces = np.abs([x / radius, middle * 2 / height, z / radius])
    return np.sign([x, middle, z]) * (faces == faces.max(0))


def _trace_rays(shape: str, scale: float, start: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Material that each ray hits first (BLUE for the sky), the points (3, rays) and the normals (3, rays) there."""
    with np.errstate(divide="ignore"):
        # Walls are visible only from inside: the camera looks through the walls in front of it.
        across = (WALL - start[::2] * np.sign(rays[::2])) / abs(rays[::2])
        floor = np.where(rays[1] < 0, -start[1] / rays[1], np.inf)
    walls, thing = across.min(0), _find_entry(shape, scale, start, rays)
    reach = np.minimum(np.minimum(floor, walls), thing)
    point = start + reach * rays
    material = np.select([thing == reach, floor == reach, point[1] < HEIGHT], [OBJECT, FLOOR, WALLS], BLUE)
    normal = np.zeros_like(rays)
    normal[1, material == FLOOR] = 1.0
    normal[::2] = np.where(material == WALLS, -np.sign(rays[::2]) * (across == walls), 0.0)
    normal[:, material == OBJECT] = _surface_normals(shape, scale, point[:, material == OBJECT])
    return material, point, normal


@lru_cache(maxsize=1024)
def cast_materials(shape: str, scale: float, degrees: float, side: int = SIZE) -> np.ndarray:
    """Weights of the materials' colours in each pixel, (5, side, side), float32, at least 0, with a sum of at most 1.

    The materials are floor, walls, object, white light (reflections, the sky above the walls) and the sky's blue. A surface
    of unit normal n under a lamp in unit direction l has brightness AMBIENT + DIFFUSE max(0, n l). The floor has only AMBIENT
    where the object hides the lamp. The object also reflects GLOSS (n h)^SHARPNESS white light, with h halfway between l and
    the eye. A pixel of 64 x 64 is the mean over 4 x 4 rays, each of which sees another part of the square lamp. A larger pixel
    is the mean of those it covers. Results are cached.

    Arguments:
        shape: of `SHAPES`.
        scale: factor on the object's lengths; 0.75 to 1.25 in the data set.
        degrees: rotation of the camera about the object, from -30 to 30; room and object stay.
        side: of the image, in pixels: 64, 32 or 16.

    >>> (cast_materials("sphere", 1.0, 0.0)[2, [0, 32], 32] > 0.5).tolist()  # the object's share
    [False, True]
    """
    start, rays = _camera_rays(degrees)
    material, point, normal = _trace_rays(shape, scale, start, rays)
    part = ((_SHUFFLE + 0.5) / RAYS - 0.5)[_INDEX % RAYS] * BREADTH
    columns, rows = np.meshgrid(part, part)
    to_lamp = LAMP[:, None] + np.stack([columns.ravel(), np.zeros(rows.size), rows.ravel()]) - point
    to_lamp /= np.linalg.norm(to_lamp, axis=0)
    facing = (normal * to_lamp).sum(0).clip(min=0.0)
    on_floor, on_object, sky = (np.flatnonzero(material == kind) for kind in (FLOOR, OBJECT, BLUE))
    facing[on_floor] *= np.isinf(_find_entry(shape, scale, point[:, on_floor], to_lamp[:, on_floor]))
    half = to_lamp[:, on_object] - rays[:, on_object] / np.linalg.norm(rays[:, on_object], axis=0)
    gloss = GLOSS * ((normal[:, on_object] * half).sum(0) / np.linalg.norm(half, axis=0)).clip(min=0.0) ** SHARPNESS

    weights = np.zeros((5, material.size))
    weights[material, np.arange(material.size)] = AMBIENT + DIFFUSE * facing
    weights[OBJECT, on_object] *= 1 - gloss
    weights[LIGHT, on_object] = gloss
    weights[BLUE, sky] = (rays[1, sky] / np.hypot(*rays[::2, sky]) * 2.5).clip(0.0, 1.0)
    weights[LIGHT, sky] = 1 - weights[BLUE, sky]
    together = SIZE * RAYS // side  # rays per pixel along either axis
    pixels = weights.reshape(5, side, together, side, together).mean((2, 4)).astype(np.float32)
    pixels.flags.writeable = False  # callers share it
    return pixels


def _space_evenly(low: float, high: float, count: int) -> list[float]:
    """Evenly spaced values from low to high, exactly symmetric about the middle; a single value is the middle."""
    return [(low + high) / 2 + (high - low) / 2 * (2 * index + 1 - count) / max(1, count - 1) for index in range(count)]


def _make_painter(sizes: tuple[int, ...], shapes: tuple[str, ...], side: int) -> Callable[[np.ndarray], np.ndarray]:
    """A function from positions (k,) in the grid of those sizes to images (k, 3, side, side), uint8."""
    # RGB of evenly spaced, saturated hues, starting at red, (hues, 3) in [0, 1].
    palettes = [np.array([colorsys.hsv_to_rgb(index / hues, 1.0, 1.0) for index in range(hues)]) for hues in sizes[:3]]
    scales, turns = _space_evenly(0.75, 1.25, sizes[3]), _space_evenly(-30.0, 30.0, sizes[5])

    def draw(index: np.ndarray) -> np.ndarray:
        *hues, scale, shape, turn = np.unravel_index(index, sizes)
        colours = np.empty((len(index), 3, 5), np.float32)
        colours[:, :, : OBJECT + 1] = np.stack([palette[hue] for palette, hue in zip(palettes, hues, strict=True)], 2)
        colours[:, :, LIGHT], colours[:, :, BLUE] = HORIZON, ZENITH
        colours *= 255
        images = np.empty((len(index), 3, side * side), np.uint8)
        for row in range(len(index)):
            weights = cast_materials(shapes[shape[row]], scales[scale[row]], turns[turn[row]], side)
            images[row] = colours[row] @ weights.reshape(5, -1) + 0.5  # + 0.5, because the conversion to bytes truncates
        return images.reshape(-1, 3, side, side)

    return draw


def rooms(
    floor_hues: int = 10,
    wall_hues: int = 10,
    object_hues: int = 10,
    scales: int = 8,
    shapes: tuple[str, ...] = tuple(SHAPES),
    orientations: int = 15,
    side: int = SIZE,
    validation: int = 0,
    test: int = 0,
    data_seed: int = 0,
) -> Dataset:
    """Images (3, 64, 64) of an object in a room, drawn on demand: all 480,000 combinations of six factors, or fewer.

    The grid's factors are, in the original's order, floor_hue, wall_hue, object_hue (index / count of the colour circle, 0 is
    red), scale (0.75 to 1.25), shape (position in `shapes`) and orientation (-30 to 30 degrees); the last changes fastest.
    Fewer hues, scales or orientations give a smaller grid with the same range and even spacing: two scales are 0.75 and 1.25,
    a single scale is 1, five orientations are 15 degrees apart, which the original's are not.

    Arguments:
        floor_hues, wall_hues, object_hues: number of colours, 1 to 10.
        scales, orientations: numbers of sizes, 1 to 8, and of directions, 1 to 15.
        shapes: names from cube, cylinder, sphere and capsule.
        side: of the images, in pixels: 64; or 32 or 16, which are means of 2 x 2 or 4 x 4 of those pixels.
        validation, test: sizes of these splits; 0 means 5,000 and 10,000, but at most a tenth of the grid each.
        data_seed: of the random split; the original has no splits.

    Raises:
        ConfigError: for a number out of its range, an unknown or repeated shape, or splits that leave nothing to train on.

    >>> data = rooms(floor_hues=2, wall_hues=2, object_hues=2, scales=1, shapes=("cube", "sphere"), orientations=3)
    >>> data.grid.sizes, data.grid.x[:2].shape
    ({'floor_hue': 2, 'wall_hue': 2, 'object_hue': 2, 'scale': 1, 'shape': 2, 'orientation': 3}, torch.Size([2, 3, 64, 64]))
    """
    check_names("shape", shapes, SHAPES)
    sizes = dict(zip(FACTORS, (floor_hues, wall_hues, object_hues, scales, len(shapes), orientations), strict=True))
    for name, size in sizes.items():
        if not 1 <= size <= FACTORS[name]:
            raise ConfigError(f"{name}s is a number of values from 1 to {FACTORS[name]}, got {size}.")
    check_side(side)
    count = math.prod(sizes.values())
    store = Drawn(_make_painter(tuple(sizes.values()), shapes, side), (count, 3, side, side))
    grid = FactorGrid(sizes, Rows(store, ahead=True))
    note = (
        "stand-in for 3D Shapes: its factors, values and order, but a scene of our own, so likelihoods cannot be compared with "
        "published ones; the split is ours, the original has none"
    )
    splits = grid.split(data_seed, validation, test)
    return Dataset("rooms", *splits, counts={"all": count}, note=note, labels={"shape": shapes}, grid=grid)
