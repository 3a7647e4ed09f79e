"""The page of a report: what it says of runs, that it needs nothing else, and that every name is escaped."""

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser
from importlib.metadata import version

import numpy as np
import pytest
import torch
from browser import explorers
from command_line import train_once
from PIL import Image

import pyro_hvae as hv
from pyro_hvae.inference.neighbour_graph import shortest_path
from pyro_hvae.inference.sampling import prior_latents
from pyro_hvae.reports import write_report
from pyro_hvae.reports.curve_panels import BOTTOM, LEFT, RIGHT, TOP, curve_panels
from pyro_hvae.reports.explorer_columns import describe_columns
from pyro_hvae.reports.explorer_content import explore
from pyro_hvae.reports.page_content import embed_picture
from pyro_hvae.reports.picture_sheets import Tile, draw_sheet
from pyro_hvae.runs import open_run
from pyro_hvae.runtime import fixed_seed

HOSTILE = "<script>window.hacked = 1<script>"
CLOSING = "</script><script>window.hacked = 2</script>"


class Elements(HTMLParser):
    """All elements of a page: (tag, attributes), and its text."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.text, self.within = [], "", ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.within = tag

    def handle_data(self, data):
        if self.within not in ("script", "style"):
            self.text += data

    def handle_endtag(self, tag):
        self.within = ""


def unpack(text, kind):
    return np.frombuffer(base64.b64decode(text), kind)


def tiles(sheet):
    """The pictures of a sheet, (n, height, width[, 3])."""
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(sheet["src"].split(",")[1]))))
    height, width, columns = sheet["height"], sheet["width"], sheet["columns"]
    places = [divmod(i, columns) for i in range(sheet["count"])]
    return np.stack([image[r * height : (r + 1) * height, c * width : (c + 1) * width] for r, c in places])


@pytest.fixture(scope="module")
def hostile_run(tmp_path_factory):
    """A run whose folder, columns, classes and factor have names that try to be scripts."""
    folder = tmp_path_factory.mktemp("hostile")
    random = np.random.default_rng(0)
    kind = random.integers(3, size=150)
    names = np.array(["cat", HOSTILE, f"dog{CLOSING}"])[kind]
    x = random.normal(size=(150, 3)) + kind[:, None]
    rows = [f"{a},{b},{c},{name}" for (a, b, c), name in zip(x.tolist(), names, strict=True)]
    (folder / "table.csv").write_text("\n".join([f"salt{CLOSING},{HOSTILE},ph,kind{HOSTILE}", *rows]) + "\n")
    options = "--dataset table.csv -o standardize=true -o latent=3 -o hidden=8 --steps 30 --out run"
    train_once(folder, "vae", *options.split(), "-o", f"labels=kind{HOSTILE}")
    return (folder / "run").rename(folder / f"run {HOSTILE} <img src=x onerror=hack()>")


def test_a_page_says_what_was_asked_for_and_what_came_of_it(command, tmp_path, pendulum_run, vae_run):
    run = shutil.copytree(pendulum_run, tmp_path / "one")
    assert command("evaluate", run, "--particles", 5, "--limit", 10)[0] == 0
    code, out, err = command("report", run, vae_run, "--out", "page.html", "--no-explorer")
    assert (code, err) == (0, "") and "Report: page.html" in out
    page = Elements((tmp_path / "page.html").read_text())
    text = " ".join(page.text.split())
    assert " ".join(json.loads((run / "run.json").read_text())["command"][1:]) in text
    assert "learned two-level prior" in text and "Klushyn et al. 2019" in text
    for part in ("60 steps, batches of 20", "standard error", "particles=5, inner=1, limit=10", "angle", "rad", "not known"):
        assert part in text, part
    assert 'recipe = "vhp"' in text and "torch" in text and version("torch") in text
    assert "Where the runs differ" in text and "train.batch_size" in text  # 20 and 10
    pictures = [attributes for tag, attributes in page.elements if tag == "img"]
    names = sorted(path.stem for folder in (run, vae_run) for path in (folder / "figures").glob("*.png"))
    assert sorted(attributes["alt"].rsplit(" of ", 1)[0].replace(" ", "_") for attributes in pictures) == names


def test_a_page_needs_no_other_file_and_no_network(command, tmp_path, pendulum_run):
    assert command("report", pendulum_run, "--points", 200)[0] == 0
    page = (tmp_path / "report.html").read_text()
    for tag, attributes in Elements(page).elements:
        assert tag not in ("link", "iframe", "object", "embed") or attributes["href"] == "data:,", tag
        for key in ("src", "href", "action", "data", "srcset"):
            assert attributes.get(key, "#").startswith(("#", "data:")), attributes
        assert not any(key.startswith("on") for key in attributes)
    policy = next(attributes["content"] for tag, attributes in Elements(page).elements if "http-equiv" in attributes)
    assert (
        policy.startswith("default-src 'none'; img-src data:;")
        and "@import" not in page
        and set(re.findall(r"url\((.)", page)) == {"#"}
    )


def test_names_are_escaped_wherever_they_stand(command, tmp_path, hostile_run):
    assert command("evaluate", hostile_run, "--particles", 5, "--limit", 10)[0] == 0
    code, _, err = command("report", hostile_run, "--out", "page.html")
    assert code == 0, err
    page = Elements((tmp_path / "page.html").read_text())
    assert [attributes.get("id", "") for tag, attributes in page.elements if tag == "script"] == ["explorer-data", ""]
    assert not any("onerror" in attributes for _, attributes in page.elements)
    assert hostile_run.name in page.text
    (one,) = explorers(tmp_path / "page.html")
    assert one["vector"]["names"] == [f"salt{CLOSING}", HOSTILE, "ph"]
    kind = next(column for column in one["columns"] if column["name"] == f"kind{HOSTILE}")
    assert sorted(kind["levels"]) == sorted(["cat", HOSTILE, f"dog{CLOSING}"])


def test_wrong_requests_leave_no_page(command, tmp_path, vae_run):
    (tmp_path / "taken.html").write_text("mine")
    for arguments, expected, part in (
        (("--out", "taken.html"), 2, "is there already"),
        (("--out", "no/page.html"), 3, "Choose a folder"),
        (("--out", "page.html", "--part", "tset"), 2, "Did you mean 'test'?"),
        (("--out", "page.html", "--image", 10**6), 2, "--image is the index"),
        (("--out", "page.html", "--points", 0), 2, "--points must be at least 1"),
    ):
        code, _, err = command("report", vae_run, *arguments)
        assert (code, part in err) == (expected, True), err
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".html") == ["taken.html"]
    assert (tmp_path / "taken.html").read_text() == "mine"
    assert command("report", vae_run, "--out", "taken.html", "--overwrite", "--no-explorer")[0] == 0


def test_the_page_of_an_exported_model_says_what_it_lacks(command, tmp_path, vae_run):
    run = shutil.copytree(vae_run, tmp_path / "run")
    assert command("evaluate", run, "--particles", 5, "--limit", 10)[0] == 0
    assert command("export", run, "shared")[0] == 0
    assert command("report", "shared", "--out", "page.html")[0] == 0
    (one,) = explorers(tmp_path / "page.html")
    assert "holds no data" in one["error"] and "--dataset" in one["error"]
    assert "particles=5" in Elements((tmp_path / "page.html").read_text()).text
    assert command("report", "shared", "--dataset", "pendulum", "--data-option", "size=100", "--out", "more.html")[0] == 0
    assert explorers(tmp_path / "more.html")[0]["maps"]


def test_a_damaged_result_or_picture_is_named_and_costs_nothing_else(command, tmp_path, vae_run):
    run = shutil.copytree(vae_run, tmp_path / "run")
    (run / "eval").mkdir(exist_ok=True)
    (run / "eval" / "likelihood.json").write_text("{")
    (run / "figures" / "samples.png").write_bytes(b"no picture")
    assert command("report", run, "--no-explorer")[0] == 0
    text = Elements((tmp_path / "report.html").read_text()).text
    assert "likelihood.json" in text and "samples.png' cannot be read" in text and "latent space" in text.lower()


def test_curves_are_where_the_values_are():
    rows = [
        {"step": step, "elbo": -100.0 + step, "beta": 1.0, "rate.z1": 2.0, "rate.z10": 1.0, "rate.z2": 0.5}
        for step in range(11)
    ]
    panels = {panel.title: panel for panel in curve_panels({"a": rows, "b": rows[:1]}, {"a": "one", "b": "one"})}
    assert [*panels] == ["Bound of batches", "Weight of the rate, beta", "Rate of each latent of a", "Rate of each latent of b"]
    bound = panels["Bound of batches"]
    points = np.array([pair.split(",") for pair in bound.lines[0].path.split()], float)
    assert points[0, 0] == LEFT and points[-1, 0] == RIGHT and TOP < points[:, 1].min() < points[:, 1].max() < BOTTOM
    # The ticks of the vertical axis say what the heights mean.
    (one, low), (other, high) = bound.up[0], bound.up[-1]
    values = float(low) + (points[:, 1] - one) / (other - one) * (float(high) - float(low))
    assert np.abs(values - np.arange(-100, -89)).max() < 0.01
    assert [line.name for line in panels["Rate of each latent of a"].lines] == ["z1", "z2", "z10"]
    assert bound.lines[0].last == "-90"


def test_a_start_far_outside_is_cut_off_and_bounds_on_other_data_have_their_own_panel():
    rows = [{"step": step, "elbo": -1e6 if step == 0 else -10.0 - step % 2, "beta": step} for step in range(100)]
    panels = curve_panels({"a": rows, "b": rows}, {"a": "one", "b": "two"})
    assert [panel.title for panel in panels][:2] == ["Bound of batches of one", "Bound of batches of two"]
    assert panels[0].cut and not panels[2].cut and float(panels[0].up[0][1]) > -12


def test_curves_of_a_run_on_features_are_those_of_its_last_stage(command, tmp_path, triangle_runs):
    assert command("report", triangle_runs[0])[0] == 0
    rows = open_run(triangle_runs[0]).directory.rows()
    last = [row["step"] for row in rows if row["stage"] == rows[-1]["stage"]]
    page = Elements((tmp_path / "report.html").read_text())
    curve = next(attributes["points"] for tag, attributes in page.elements if tag == "polyline")
    assert len(curve.split()) == len(last) < len(rows)
    (one,) = explorers(tmp_path / "report.html")
    assert (one["sheets"]["data"]["height"], one["sheets"]["data"]["width"]) == open_run(triangle_runs[0]).dataset.shape[1:]


def test_pictures_of_images_are_their_grey_levels_and_colours():
    images = torch.rand(5, 3, 4, 6)
    sheet = draw_sheet(Tile.measure([images]).pixels(images))
    assert (tiles(sheet) == (255 * images).round().byte().numpy().transpose(0, 2, 3, 1)).all()
    grey = torch.rand(7, 1, 4, 6)
    assert (tiles(draw_sheet(Tile().pixels(grey))) == (255 * grey[:, 0]).round().byte().numpy()).all()
    assert Tile().pixels(torch.full((1, 1, 1, 1), torch.nan)).tolist() == [[[[230, 158, 0]]]]  # missing: orange
    assert Tile().pixels(torch.rand(2, 2, 4, 6)).shape == (2, 4, 12)


def test_vectors_keep_their_values_to_a_254th_of_their_column():
    x = torch.randn(50, 300) * torch.logspace(-3, 3, 300)
    tile = Tile.measure([x[:20], x[20:]])
    levels = tiles(draw_sheet(tile.pixels(x))).reshape(50, -1)[:, :300].astype(float)
    values = tile.low + (levels - 1) / 254 * (tile.high - tile.low)
    assert (np.abs(values - x.numpy()) <= (tile.high - tile.low) / 254 * 0.501).all() and levels.min() == 1


def test_columns_say_their_values(pendulum_run):
    data = open_run(pendulum_run).dataset
    values = {
        "row": np.arange(3),
        "kind": np.array(["b", "a", "b"]),
        "few": np.array([1.5, np.nan, 0.5]),
        "long": np.array(["x", "y", "z"]),
        "empty": np.array([np.nan] * 3),
    }
    described = {column["name"]: column for column in describe_columns(data, values)}
    assert [*described] == ["kind", "few", "long", "row"]
    assert described["kind"]["levels"] == ["a", "b"] and unpack(described["kind"]["values"], "u1").tolist() == [1, 0, 1]
    assert described["few"]["levels"] == ["0.5", "1.5"] and unpack(described["few"]["values"], "u1").tolist() == [1, 255, 0]
    many = np.append(np.linspace(-3, 5, 99), np.nan)
    (column,) = describe_columns(data, {"many": many})
    stored = unpack(column["values"], "<u2").astype(float)
    assert stored[-1] == 65535 and np.abs(column["low"] + column["step"] * stored[:-1] - many[:-1]).max() < 8 / 65534
    assert describe_columns(data, {"names": np.array([f"n{i}" for i in range(100)])}) == []  # of the data


def test_the_explorer_holds_decoded_grids_reconstructions_and_a_graph(hvae_run):
    run = open_run(hvae_run)
    one = explore(run, 2_000_000)
    data = torch.cat([split.x[:] for split in (run.dataset.train, run.dataset.validation, run.dataset.test)])
    codes = hv.encode(run.guide, data).means
    assert one["count"] == len(data) == 1797 and [m["name"] for m in one["maps"]] == ["z1", "z2"]
    pictured = unpack(one["pictured"], "<u4")
    exact = hv.reconstruct(run.model, run.guide, data[pictured.astype(int)])
    assert np.abs(tiles(one["sheets"]["reconstructions"]) - (255 * exact[:, 0].clamp(0, 1)).round().numpy()).max() <= 1
    assert np.array_equal(tiles(one["sheets"]["data"]), (255 * data[pictured.astype(int), 0]).round().numpy())
    for number, (site, one_map) in enumerate(zip(("z1", "z2"), one["maps"], strict=True)):
        z = codes[site].astype(float)
        places = unpack(one_map["places"], "<u2").reshape(-1, 2) / 65535
        low, high, cells = np.array(one_map["low"]), np.array(one_map["high"]), one_map["cells"]
        places = low + places * (high - low)
        # The plane by another way: singular vectors, with the signs of the page.
        mean, axes = (z.mean(0), np.linalg.svd(z - z.mean(0), full_matrices=False)[2][:2]) if site == "z1" else (0, np.eye(2))
        own = (z - mean) @ axes.T
        signs = np.sign((own * places).sum(0))
        axes = axes * signs[:, None]
        assert np.abs(own * signs - places).max() < (high - low).max() / 65535
        across, up = np.meshgrid(np.linspace(low[0], high[0], cells), np.linspace(low[1], high[1], cells))
        grid = mean + np.stack([across.ravel(), up.ravel()], 1) @ axes
        exact = hv.decode(run.model, {site: grid.astype(np.float32)})[:, 0]  # z1 follows from z2
        difference = tiles(one["sheets"][f"grid{number}"]) - (255 * exact.clip(0, 1)).round()
        assert np.abs(difference).max() <= 1 and (difference != 0).mean() < 1e-3  # the codes differ in their last digit
    variance = np.linalg.svd(codes["z1"].astype(float) - codes["z1"].mean(0), compute_uv=False) ** 2
    assert f"({variance[0] / variance.sum():.0%}".replace("%", " %") in one["maps"][0]["axes"][0]
    nodes = unpack(one["nodes"]["nodes"], "<f4").reshape(-1, 3)
    with fixed_seed(0):
        prior = prior_latents(run.model, len(nodes))["z1"]
    assert np.array_equal(nodes, prior.numpy())
    exact = hv.generate(run.model, len(nodes), fixed={"z1": prior})["x"][:, 0]
    assert np.array_equal(tiles(one["sheets"]["nodes"]), (255 * exact.clamp(0, 1)).round().numpy())
    ends = unpack(one["nodes"]["ends"], "<f4").reshape(-1, 3)
    assert np.abs(ends - codes["z1"][pictured]).max() < 1e-5
    assert shortest_path(nodes, ends[0], ends[1]).length > 0


def test_layers_that_reach_x_past_a_map_are_held_at_a_datum(ar_hvae_run):
    run = open_run(ar_hvae_run)
    one = explore(run, 1_000_000, points=300, part="test", image=3)
    assert one["count"] == 300 and "300 test data" in one["about"]
    maps = {m["name"]: m for m in one["maps"]}
    assert [*maps] == ["z1, z2", "z1", "z2"] and one["nodes"]["sites"] == "z1, z2"
    assert maps["z1"]["held"] == "z2 of test datum 3" and maps["z2"]["held"] == maps["z1, z2"]["held"] == ""
    low, high, cells = maps["z1"]["low"], maps["z1"]["high"], maps["z1"]["cells"]
    codes = hv.encode(run.guide, run.dataset.test.x[:]).means
    z = codes["z1"].astype(float)
    assert low[0] < high[0] and z.shape[1] == 3
    # The middle of the map of z1 stands for the middle of its places, with z2 as it is for the datum.
    middle = tiles(one["sheets"]["grid1"])[cells * cells // 2]
    axes = np.linalg.svd(z - z.mean(0), full_matrices=False)[2][:2]
    places = low + unpack(maps["z1"]["places"], "<u2").reshape(-1, 2) / 65535 * (np.array(high) - low)
    axes = axes * np.sign((((z - z.mean(0)) @ axes.T) * places).sum(0))[:, None]
    code = z.mean(0) + (np.array(low) + high) / 2 @ axes
    exact = hv.decode(run.model, {"z1": code[None].astype(np.float32), "z2": codes["z2"][3:4]})[0, 0]
    assert np.abs(middle - (255 * exact.clip(0, 1)).round()).max() <= 1


def test_an_explorer_of_large_pictures_keeps_its_budget(command, tmp_path):
    np.save("noise.npy", np.random.default_rng(0).integers(0, 256, (60, 3, 64, 64), dtype=np.uint8))
    options = "--dataset noise.npy -o hidden=8 -o latent=2 --steps 4 --batch-size 20 --out run"
    assert command("train", "vae", *options.split())[0] == 0
    one = explore(open_run("run"), 3_000_000)
    size = sum(len(sheet["src"]) for sheet in one["sheets"].values())
    assert 1_000_000 < size < 3_300_000, size
    write_report([open_run("run")], tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size < 10_000_000


def test_large_pictures_are_made_smaller_where_there_are_too_many(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (900, 2000, 3), dtype=np.uint8)
    Image.fromarray(noise).save("noise.png")
    Image.fromarray(noise[:50, :50]).save("small.png")

    def read(address):
        head, content = address.split(",")
        return head, Image.open(io.BytesIO(base64.b64decode(content)))

    head, image = read(embed_picture(tmp_path / "noise.png"))
    assert "png" in head and np.array_equal(np.asarray(image), noise)
    head, image = read(embed_picture(tmp_path / "noise.png", share=0.5))
    assert "jpeg" in head and image.size == (1600, 720)
    assert "png" in read(embed_picture(tmp_path / "small.png", share=0.5))[0]
