"""Rooms: geometry against closed forms, colours against the table, the grid in the original's order."""

import colorsys
import math
import sys

import numpy as np
import pytest
import torch

from pyro_hvae.data.batches import Batches
from pyro_hvae.data.generated.rooms import SHAPES, SIZE, cast_materials, rooms
from pyro_hvae.errors import ConfigError

# The package may show the function of the same name in the module's place.
scene = sys.modules["pyro_hvae.data.generated.rooms"]
FLOOR, WALLS, OBJECT, LIGHT, BLUE = range(5)
RAYS, WALL, HEIGHT = scene.RAYS, scene.WALL, scene.HEIGHT
SPAN = math.tan(scene.VIEW / 2)
SMALL = {"floor_hues": 2, "wall_hues": 3, "object_hues": 2, "scales": 2, "shapes": ("sphere", "cube"), "orientations": 3}


def seen(shape, scale, degrees):
    """Material of every ray, (256, 256)."""
    return scene._trace_rays(shape, scale, *scene._camera_rays(degrees))[0].reshape(SIZE * RAYS, SIZE * RAYS)


def camera(degrees):
    """Where the camera is, and its right, up and forward, from its definition alone."""
    angle = math.radians(degrees)
    place = np.array([scene.DISTANCE * math.sin(angle), scene.ELEVATION, scene.DISTANCE * math.cos(angle)])
    forward = np.array([0, scene.AIM, 0]) - place
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0, 1, 0])
    right /= np.linalg.norm(right)
    return place, np.stack([right, np.cross(right, forward), forward])


def pixel(point, degrees):
    """Column and row of a point in space, fractional, 0 at the upper left corner of the image."""
    place, axes = camera(degrees)
    x, y, depth = axes @ (np.asarray(point) - place)
    return (1 + x / depth / SPAN) * SIZE / 2, (1 - y / depth / SPAN) * SIZE / 2


def distance(shape, scale, point):
    """Signed distance-like function (negative inside, zero on the surface) of points (3, ...)."""
    radius, height = (scale * length for length in SHAPES[shape])
    x, y, z = point
    if shape == "cube":
        return np.maximum.reduce([abs(x) - radius, abs(z) - radius, abs(y - height / 2) - height / 2])
    if shape == "cylinder":
        return np.maximum(np.sqrt(x**2 + z**2) - radius, abs(y - height / 2) - height / 2)
    low, high = radius, height - radius
    return np.sqrt(x**2 + (y - np.minimum(np.maximum(y, low), high)) ** 2 + z**2) - radius


@pytest.mark.parametrize("degrees", [-30, 0, 12.5])
def test_the_camera(degrees):
    place, axes = camera(degrees)
    start, rays = scene._camera_rays(degrees)
    assert np.allclose(start[:, 0], place)
    right, up, forward = axes @ rays
    grid = ((np.arange(SIZE * RAYS) + 0.5) / (SIZE * RAYS) * 2 - 1) * SPAN
    assert np.allclose(forward, 1) and np.allclose(right.reshape(256, 256), grid[None])
    assert np.allclose(up.reshape(256, 256), -grid[:, None])


@pytest.mark.parametrize(("scale", "degrees"), [(0.75, -30), (1.0, 0), (1.25, 17)])
def test_the_silhouette_of_the_sphere(scale, degrees):
    radius = scale * SHAPES["sphere"][0]
    place, axes = camera(degrees)
    towards = np.array([0, radius, 0]) - place
    length = np.linalg.norm(towards)
    mask = seen("sphere", scale, degrees) == OBJECT
    # Every ray within the cone that touches the sphere, and no other.
    _, rays = scene._camera_rays(degrees)
    cosine = towards @ rays / length / np.linalg.norm(rays, axis=0)
    assert np.array_equal(mask.ravel(), cosine > math.sqrt(1 - (radius / length) ** 2))
    # The cone meets the image plane in an ellipse: tangents of the extreme angles bound it from above and below.
    x, up, forward = axes @ towards
    tilt, half = math.atan2(up, forward), math.asin(radius / length)
    top, bottom = math.tan(tilt + half) / SPAN, math.tan(tilt - half) / SPAN
    middle = math.sin(tilt) * math.cos(tilt) / (math.cos(half) ** 2 - math.sin(tilt) ** 2)
    wide = math.sqrt((middle * math.sin(tilt) + math.cos(tilt)) ** 2 / math.cos(half) ** 2 - middle**2 - 1) / SPAN
    rows, columns = np.nonzero(mask)
    to_unit = 2 / (SIZE * RAYS)
    assert abs(x) < 1e-12 and (columns + 0.5).mean() * to_unit - 1 == pytest.approx(0, abs=1e-9)
    assert 1 - (rows + 0.5).mean() * to_unit == pytest.approx((top + bottom) / 2, abs=1e-3)
    assert middle / SPAN == pytest.approx((top + bottom) / 2)
    assert mask.sum() * to_unit**2 == pytest.approx(math.pi * (top - bottom) / 2 * wide, rel=2e-3)
    # As pixels, anti-aliased: white marks the object where floor, walls and sky are not.
    cover = mask.reshape(SIZE, RAYS, SIZE, RAYS).mean((1, 3))
    weights = cast_materials("sphere", scale, degrees)
    assert np.array_equal(weights[OBJECT] > 0, cover > 0)
    assert (weights[[FLOOR, WALLS, BLUE]][:, cover == 1] == 0).all()
    assert np.unique(cover).size > 12


@pytest.mark.parametrize("shape", SHAPES)
def test_rays_meet_the_surface_first_and_never_miss(shape):
    scale, (start, rays) = 1.1, scene._camera_rays(21.0)
    rays = rays[:, ::29]
    reach = scene._find_entry(shape, scale, start, rays)
    hit = np.isfinite(reach)
    point = start + np.where(hit, reach, 0) * rays
    assert hit.sum() > 100 and abs(distance(shape, scale, point[:, hit])).max() < 1e-12
    # Marching along every ray finds nothing the formula does not, nor anything before it.
    steps = np.linspace(4, 11, 1401)
    inside = distance(shape, scale, start[:, :, None] + rays[:, :, None] * steps) < 0
    found = inside.any(1)
    assert found.sum() > 100 and hit[found].all()
    late = steps[inside.argmax(1)][found] - reach[found]
    assert (late > -1e-9).all() and (late < steps[1] - steps[0] + 1e-9).all()
    # Normals: the gradient of the distance, where that is smooth.
    surface, normal, tiny = point[:, hit], scene._surface_normals(shape, scale, point[:, hit]), 1e-6
    gradient = np.stack(
        [
            (distance(shape, scale, surface + move) - distance(shape, scale, surface - move)) / (2 * tiny)
            for move in tiny * np.eye(3)[:, :, None]
        ]
    )
    assert np.allclose(np.linalg.norm(normal, axis=0), 1)
    assert np.allclose(normal, gradient, atol=1e-5) and ((normal * rays[:, hit]).sum(0) < 1e-9).all()


def test_walls_floor_and_sky_are_where_perspective_puts_them():
    for degrees in (0.0, 30.0):
        material = seen("sphere", 0.75, degrees)
        for corner in ([-WALL, 0, -WALL], [-WALL, HEIGHT, -WALL]):
            column, row = pixel(corner, degrees)
            i, j = int(row * RAYS), int(column * RAYS)
            above, below = material[i - 3, j], material[i + 3, j]
            assert (above, below) == ((WALLS, FLOOR) if corner[1] == 0 else (BLUE, WALLS))
    # Straight ahead, floor and back wall meet in a horizontal edge.
    _, row = pixel([0, 0, -WALL], 0.0)
    column = seen("sphere", 0.75, 0.0)[:, 40]
    assert abs(np.flatnonzero(column == FLOOR)[0] - row * RAYS) <= 1
    # The two walls at a corner face the lamp differently, so that the edge is seen.
    column, row = pixel([-WALL, 1.5, -WALL], 30.0)
    walls = cast_materials("sphere", 0.75, 30.0)[WALLS, int(row)]
    assert abs(walls[int(column) - 2] - walls[int(column) + 2]) > 0.05


def test_light_and_shadow():
    weights = cast_materials("cylinder", 1.0, 0.0)
    assert weights.dtype == np.float32 and (weights >= 0).all() and (weights.sum(0) <= 1 + 1e-6).all()
    # Lambert's law on the floor in front, where nothing hides the lamp.
    spot = np.array([1.5, 0.0, 3.0])
    column, row = pixel(spot, 0.0)
    cosine = scene.LAMP[1] / np.linalg.norm(scene.LAMP - spot)
    assert weights[FLOOR, int(row), int(column)] == pytest.approx(scene.AMBIENT + scene.DIFFUSE * cosine, abs=5e-3)
    # Only the ambient light where the object hides all of the lamp, as just beside the foot of a sphere.
    material = seen("sphere", 1.0, 0.0).reshape(SIZE, RAYS, SIZE, RAYS)
    bare = (material == FLOOR).all((1, 3))
    assert cast_materials("sphere", 1.0, 0.0)[FLOOR][bare].min() == pytest.approx(scene.AMBIENT)
    # The sky: white at the horizon, bluer above, nothing else.
    sky = cast_materials("sphere", 0.75, 0.0)[:, :4]
    assert np.allclose(sky[LIGHT] + sky[BLUE], 1) and (np.diff(sky[BLUE], axis=0) < 0).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_turning_the_camera_the_other_way_mirrors_the_image(shape):
    for scale, degrees in [(0.75, 30.0), (1.0, 60 / 14), (1.25, 0.0)]:
        assert np.allclose(cast_materials(shape, scale, degrees)[..., ::-1], cast_materials(shape, scale, -degrees), atol=1e-6)


def test_larger_objects_cover_more_and_shapes_and_orientations_differ():
    scales = 0.75 + 0.5 * np.arange(8) / 7
    for shape in SHAPES:
        areas = [(seen(shape, scale, 30.0) == OBJECT).sum() for scale in scales]
        assert (np.diff(areas) > 100).all()
    images = rooms(floor_hues=1, wall_hues=1, object_hues=1, scales=1).grid.x[:].flatten(1)
    assert images.shape[0] == 60
    apart = torch.cdist(images, images, p=1) + 1e9 * torch.eye(60)
    assert apart.min() > 20  # summed over pixels: no two of the geometries can be mistaken


def test_the_grid_is_the_originals():
    data = rooms()
    assert list(data.grid.sizes) == ["floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation"]
    assert tuple(data.grid.sizes.values()) == (10, 10, 10, 8, 4, 15)
    assert data.grid.x.shape == (480_000, 3, 64, 64) and data.grid.x.ahead and data.counts == {"all": 480_000}
    assert [len(part) for part in (data.train, data.validation, data.test)] == [465_000, 5_000, 10_000]
    assert data.note.startswith("stand-in for 3D Shapes") and data.shape == (3, 64, 64)
    values = torch.tensor([[3, 7, 9, 5, 2, 11]])
    index = 11 + 15 * (2 + 4 * (5 + 8 * (9 + 10 * (7 + 10 * 3))))  # the original's get_index
    assert data.grid.index(values).tolist() == [index]
    colours = np.array([colorsys.hsv_to_rgb(hue, 1, 1) for hue in (0.3, 0.7, 0.9)])
    weights = cast_materials("sphere", 0.75 + 0.5 * 5 / 7, -30 + 60 * 11 / 14)
    image = data.grid.x.raw(torch.tensor([index]))[0]
    assert image.dtype == torch.uint8
    sky = weights[LIGHT] + weights[BLUE] * np.array([0.35, 0.62, 0.95])[:, None, None]
    expected = np.einsum("mc,mhw->chw", colours, weights[:3]) + sky
    assert abs(image.numpy() - 255 * expected).max() < 0.51
    assert torch.equal(data.grid.x[index], image / 255)


def test_hues_are_the_tables():
    data = rooms(scales=1, shapes=("cylinder",), orientations=1)
    weights = cast_materials("cylinder", 1.0, 0.0)
    for material, factor in enumerate(("floor_hue", "wall_hue", "object_hue")):
        # The object reflects some white everywhere, if ever so little.
        alone = weights[material] * (np.delete(weights, material, 0).sum(0) < 1e-5)
        row, column = np.unravel_index(alone.argmax(), alone.shape)
        for hue in range(10):
            values = torch.tensor([[1, 4, 8, 0, 0, 0]])
            values[0, material] = hue
            spot = data.grid.x[data.grid.index(values)][0, :, row, column].double().numpy()
            found, saturation, value = colorsys.rgb_to_hsv(*spot)
            assert abs((found - hue / 10 + 0.5) % 1 - 0.5) < 0.002 and saturation == 1, factor
            assert value == pytest.approx(alone.max(), abs=0.5 / 255 + 1e-6)


def test_colours_and_geometry_are_independent():
    data = rooms(**SMALL)
    grid, base = data.grid, torch.tensor([[0, 0, 0, 1, 0, 2]])
    first = grid.x.raw(grid.index(base))[0].numpy()
    weights = cast_materials("sphere", 1.25, 30.0)
    for material in range(3):
        other = base.clone()
        other[0, material] = 1
        changed = (grid.x.raw(grid.index(other))[0].numpy() != first).any(0)
        assert not changed[weights[material] == 0].any() and changed[weights[material] > 0.05].all()


def test_images_do_not_depend_on_what_they_are_read_with():
    grid = rooms(**SMALL).grid
    everything = grid.x.raw(torch.arange(len(grid.x)))
    assert everything.shape == (2 * 3 * 2 * 2 * 2 * 3, 3, 64, 64)
    order = torch.randperm(len(grid.x))[:40]
    assert torch.equal(grid.x.raw(order), everything[order])
    assert torch.equal(grid.x.raw(order[:1]), everything[order[:1]]) and grid.x[order[:0]].shape == (0, 3, 64, 64)


@pytest.mark.parametrize(("side", "block"), [(32, 2), (16, 4)])
def test_smaller_images_are_block_means(side, block):
    large, small = (rooms(**SMALL, side=pixels) for pixels in (64, side))
    index = torch.arange(0, len(large.grid.x), 5)
    assert small.shape == (3, side, side) and small.grid.x.raw(index).dtype == torch.uint8
    blocks = large.grid.x[index].reshape(-1, 3, side, block, side, block)
    # All are rounded to bytes, the larger image before its mean is taken: each by half a grey level at most.
    assert (small.grid.x[index] - blocks.mean((3, 5))).abs().max() <= 1.01 / 255
    for name in ("train", "validation", "test"):
        part, whole = getattr(small, name), getattr(large, name)
        assert all(torch.equal(part.factors[key], whole.factors[key]) for key in whole.factors)
        where = small.grid.index(torch.stack(list(part.factors.values()), 1))
        assert torch.equal(part.x[:], small.grid.x[where])
    parts = cast_materials("cube", 1.25, -30.0).reshape(5, side, block, side, block)
    assert np.abs(cast_materials("cube", 1.25, -30.0, side) - parts.mean((2, 4))).max() < 1e-6


def test_nothing_is_cast_before_it_is_asked_for():
    cast_materials.cache_clear()
    data = rooms()
    assert cast_materials.cache_info().misses == 0
    _ = data.grid.x[torch.tensor([0, 4800, 3])]
    assert cast_materials.cache_info().misses == 2  # 0 and 4800 differ in colours alone
    assert 480 * cast_materials("cube", 0.75, -30.0).nbytes < 1e8
    with pytest.raises(ValueError, match="read-only"):
        cast_materials("cube", 0.75, -30.0)[0] = 0


def test_parts_of_the_grid():
    whole, part = rooms().grid, rooms(5, 2, 1, 1, ("capsule", "cube"), 3).grid
    assert list(part.sizes.values()) == [5, 2, 1, 1, 2, 3]
    wide = rooms(scales=2).grid
    for values, same in [([3, 1, 0, 1, 0, 2], [6, 5, 0, 7, 3, 14]), ([1, 0, 0, 0, 1, 1], [2, 0, 0, 0, 0, 7])]:
        expected = whole.x.raw(whole.index(torch.tensor([same])))
        *hues, size, _, _ = values
        many = [*same[:3], size, *same[4:]]
        assert torch.equal(wide.x.raw(wide.index(torch.tensor([many]))), expected)
        values[3] = 0  # the only scale, 1
        image = part.x.raw(part.index(torch.tensor([values])))[0]
        shape, degrees = ("capsule", "cube")[values[4]], (-30.0, 0.0, 30.0)[values[5]]
        row, column = np.unravel_index(cast_materials(shape, 1.0, degrees)[OBJECT].argmax(), (64, 64))
        assert image[0, row, column] > image[1, row, column] and torch.equal(image[:, 62], expected[0, :, 62])


def test_splits():
    data, again, other = rooms(**SMALL), rooms(**SMALL), rooms(**SMALL, data_seed=1)
    parts = (data.train, data.validation, data.test)
    assert [len(part) for part in parts] == [144 - 14 - 14, 14, 14]
    indices = [data.grid.index(torch.stack(list(part.factors.values()), 1)) for part in parts]
    assert torch.cat(indices).unique().numel() == 144
    assert all(values.dtype == torch.int64 for values in data.test.factors.values())
    assert torch.equal(data.test.x[:], data.grid.x[indices[2]]) and torch.equal(data.test.x[:], again.test.x[:])
    assert not torch.equal(data.test.factors["orientation"], other.test.factors["orientation"])
    chosen = rooms(**SMALL, validation=3, test=100)
    assert [len(chosen.train), len(chosen.validation), len(chosen.test)] == [41, 3, 100]
    assert Batches(data.train.x, 16, 0).next().shape == (16, 3, 64, 64)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"floor_hues": 0}, "floor_hues is a number of values from 1 to 10, got 0"),
        ({"object_hues": 11}, "object_hues .* got 11"),
        ({"wall_hues": -1}, "wall_hues"),
        ({"scales": 9}, "scales is a number of values from 1 to 8, got 9"),
        ({"orientations": 16}, "orientations is a number of values from 1 to 15, got 16"),
        ({"shapes": ("sphere", "cubes")}, "no shape called 'cubes'. Did you mean 'cube'"),
        ({"shapes": ("cube", "cube")}, "got cube, cube"),
        ({"shapes": ()}, "got none"),
        ({"validation": -1}, "cannot be split into -1"),
        ({"test": -2}, "-2 for testing"),
        ({"data_seed": -3}, "at least 0, got -3"),
        ({"side": 48}, "side is 64, 32 or 16 pixels, got 48"),
        ({"test": 480_000}, "at least one for training"),
        ({"scales": 1, "shapes": ("cube",), "floor_hues": 1, "wall_hues": 1, "object_hues": 2, "orientations": 1}, "2 data"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(ConfigError, match=message):
        rooms(**options)
