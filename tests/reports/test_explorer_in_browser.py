"""The explorer in a real browser: what is pointed at, decoded, slid and connected is what Python says."""

import base64
import time

import numpy as np
import pytest
import torch
from browser import emulate, errors, explorers, open_browser, resize
from command_line import train_once

import pyro_hvae as hv
from pyro_hvae.reports import write_report
from pyro_hvae.runs import open_run

BETWEEN = 2  # grey levels of 255 that bilinear means cost on the small pendulum
SCRIPT = "</script><script>window.hacked = 1</script>"


@pytest.fixture(scope="module")
def browser():
    with open_browser() as driver:
        yield driver


@pytest.fixture(scope="module")
def vector_run(tmp_path_factory):
    """A run on a table whose columns and classes have names that try to be scripts."""
    folder = tmp_path_factory.mktemp("vectors")
    random = np.random.default_rng(0)
    kind = random.integers(3, size=200)
    names, x = np.array(["cat", SCRIPT, "owl"])[kind], random.normal(size=(200, 4)) + kind[:, None]
    rows = [",".join([*map(str, values), name]) for values, name in zip(x.tolist(), names, strict=True)]
    (folder / "table.csv").write_text("\n".join([f"salt,{SCRIPT},depth,ph,kind{SCRIPT}", *rows]) + "\n")
    options = "--dataset table.csv -o standardize=true -o latent=3 -o hidden=8 -o lr=0.01 --steps 200 -o warmup=1 --out run"
    train_once(folder, "vae", *options.split(), "-o", f"labels=kind{SCRIPT}")
    return folder / "run"


@pytest.fixture(scope="module")
def pages(tmp_path_factory, pendulum_run, hvae_run, vector_run):
    """Kind of run -> (the opened run, its page)."""
    folder = tmp_path_factory.mktemp("pages")
    found = {}
    for name, path in {"pendulum": pendulum_run, "images": hvae_run, "vectors": vector_run}.items():
        run = open_run(path)
        write_report([run], folder / f"{name}.html")
        found[name] = run, folder / f"{name}.html"
    return found


def show(browser, page):
    """Opens a page, waits for its explorer, and returns the explorer's values."""
    browser.get(page.as_uri())
    browser.execute_async_script("const done = arguments[0]; explorer.loaded.then(() => done())")
    browser.execute_script("document.querySelector('#explorer').scrollIntoView()")
    return explorers(page)[0]


def part(browser, name):
    return browser.find_element("css selector", f"#explorer [data-part='{name}']")


def pixels(browser, name):
    """The picture in a canvas, (height, width), of its red level."""
    script = """
        const named = document.querySelector(`#explorer [data-part='${arguments[0]}']`);
        const canvas = named ?? document.querySelector(arguments[0]);
        const image = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return [image.height, image.width, ...image.data];
    """
    height, width, *levels = browser.execute_script(script, name)
    return np.array(levels).reshape(height, width, 4)[:, :, 0]


def point_at(browser, place, click=False):
    """Moves the mouse to a place on the map, in [0, 1] to the right and upwards."""
    from selenium.webdriver import ActionChains

    overlay = part(browser, "overlay")
    size = overlay.size["width"]
    offset = round((place[0] - 0.5) * size), round((0.5 - place[1]) * size)
    actions = ActionChains(browser, duration=0).move_to_element_with_offset(overlay, *offset)
    (actions.click() if click else actions).perform()


def press(browser, *keys):
    for key in keys:
        part(browser, "overlay").send_keys(key)


def unpack(text, kind):
    return np.frombuffer(base64.b64decode(text), kind)


def places_of(one_map):
    return unpack(one_map["places"], "<u2").reshape(-1, 2) / 65535


def to_levels(images):
    return np.round(255 * np.clip(np.asarray(images, dtype=np.float32), 0, 1))


@pytest.mark.parametrize("name", ["pendulum", "images", "vectors"])
def test_a_page_opens_soon_and_without_an_error(browser, pages, name):
    errors(browser)
    page, times = pages[name][1], []
    for _ in range(3):
        show(browser, page)
        times.append(browser.execute_script("return performance.getEntriesByName('explorer')[0].startTime"))
    assert min(times) < 2000, times
    assert errors(browser) == [] and page.stat().st_size < 10_000_000
    browser.execute_async_script(
        "const all = [...document.images]; for (const image of all) image.loading = 'eager';"
        "Promise.all(all.map((image) => image.decode())).then(arguments[0])"
    )
    sizes = browser.execute_script("return [...document.images].map((image) => [image.complete, image.naturalWidth])")
    assert len(sizes) == len(list((pages[name][0].directory.path / "figures").glob("*.png")))
    assert all(complete and width > 100 for complete, width in sizes)
    assert len(browser.find_elements("css selector", "svg polyline")) >= 2
    assert browser.execute_script("return window.hacked") is None


@pytest.mark.parametrize("name", ["pendulum", "images"])
def test_pointing_shows_a_datum_and_its_reconstruction(browser, pages, name):
    run, page = pages[name]
    one = show(browser, page)
    places, pictured = places_of(one["maps"][0]), unpack(one["pictured"], "<u4").astype(int)
    index = pictured[len(pictured) // 2]
    point_at(browser, places[index])
    # The mouse stands on a whole pixel; the datum is the nearest to that.
    found = browser.execute_script("return explorer.datum()")
    assert np.linalg.norm(places[found] - places[index]) < 2 / part(browser, "overlay").size["width"]
    sizes = [len(split) for split in (run.dataset.train, run.dataset.validation, run.dataset.test)]
    kind = int(np.searchsorted(np.cumsum(sizes), found, side="right"))
    row = found - sum(sizes[:kind])
    assert f"part: {('training', 'validation', 'test')[kind]}; row: {row}" in part(browser, "datum-text").text
    if found in pictured:
        x = (run.dataset.train, run.dataset.validation, run.dataset.test)[kind].x[int(row) : int(row) + 1]
        assert np.array_equal(pixels(browser, "datum"), to_levels(x[0, 0]))
        reconstruction = hv.reconstruct(run.model, run.guide, x)[0, 0]
        assert np.abs(pixels(browser, "reconstruction") - to_levels(reconstruction)).max() <= 1  # alone and in a batch


def test_a_decoded_place_is_what_the_model_decodes(browser, pages):
    """On a node of the grid exactly, between nodes the weighted mean of four."""
    run, page = pages["pendulum"]
    one = show(browser, page)
    first = one["maps"][0]
    low, high, cells = np.array(first["low"]), np.array(first["high"]), first["cells"]
    across, up = np.meshgrid(np.linspace(low[0], high[0], cells), np.linspace(low[1], high[1], cells))
    grid = to_levels(hv.decode(run.model, {"z1": np.stack([across, up], -1).reshape(-1, 2).astype(np.float32)})[:, 0])
    grid = grid.reshape(cells, cells, *grid.shape[1:])
    assert browser.execute_script("return explorer.cursor()") == [0.5, 0.5]
    browser.execute_script("document.querySelector('#explorer [data-part=overlay]').focus()")
    moves = {"\ue014": (0, 1), "\ue013": (1, 0), "\ue012": (0, -1), "\ue015": (-1, 0)}  # right, up, left, down
    at = np.array([cells // 2, cells // 2])
    for key in ["\ue014", "\ue013", "\ue013", "\ue012", "\ue012", "\ue015"]:
        press(browser, key)
        at = at + moves[key]
        cursor = np.array(browser.execute_script("return explorer.cursor()"))
        assert np.abs(cursor * (cells - 1) - at[::-1]).max() < 1e-9
        assert np.array_equal(pixels(browser, "decoded"), grid[tuple(at)])
    every = browser.execute_script(
        "const n = arguments[0], found = []; for (let j = 0; j < n; j++) for (let i = 0; i < n; i++)"
        "found.push([...explorer.decode([i / (n - 1), j / (n - 1)]).pixels].filter((_, k) => k % 4 === 0)); return found",
        cells,
    )
    assert np.array_equal(np.array(every).reshape(grid.shape), grid)
    for place in ((0.3, 0.62), (0.77, 0.11)):
        point_at(browser, place, click=True)
        x, y = np.array(browser.execute_script("return explorer.cursor()")) * (cells - 1)
        assert abs(x / (cells - 1) - place[0]) < 0.01 and abs(y / (cells - 1) - place[1]) < 0.01
        i, j = int(x), int(y)
        a, b = x - i, y - j
        mean = (1 - b) * ((1 - a) * grid[j, i] + a * grid[j, i + 1]) + b * ((1 - a) * grid[j + 1, i] + a * grid[j + 1, i + 1])
        assert np.abs(pixels(browser, "decoded") - mean).max() <= 0.51
    places = np.random.default_rng(0).random((200, 2))
    shown = browser.execute_script(
        "return arguments[0].map((place) => [...explorer.decode(place).pixels].filter((_, k) => k % 4 === 0))", places.tolist()
    )
    z = low + places * (high - low)
    exact = to_levels(hv.decode(run.model, {"z1": z.astype(np.float32)})[:, 0])
    difference = np.abs(np.array(shown).reshape(exact.shape) - exact)
    print(f"between nodes: largest difference {difference.max():.0f} of 255, mean {difference.mean():.2f}")
    assert difference.max() <= BETWEEN


def test_sliders_show_the_traversals_of_every_layer(browser, pages):
    run, page = pages["images"]
    one = show(browser, page)
    units, values = one["sliders"]["units"], one["sliders"]["values"]
    data = run.dataset.test.x
    exact = hv.traverse(run.model, run.guide, data[:1], data, steps=len(values), seed=0)
    assert [unit["name"] for unit in units] == [unit.name for unit in exact.units]
    rows = browser.find_elements("css selector", "#explorer .slider")
    assert len(rows) == len({unit["layer"] for unit in units}) == 2
    for row, layer in zip(rows, dict.fromkeys(unit["layer"] for unit in units), strict=True):
        mine = [number for number, unit in enumerate(units) if unit["layer"] == layer]
        select, slider = row.find_element("css selector", "select"), row.find_element("css selector", "input")
        assert [int(option.get_attribute("value")) for option in select.find_elements("css selector", "option")] == mine
        for number in (mine[0], mine[-1]):
            browser.execute_script(
                "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('change'))", select, number
            )
            for step in (0, len(values) - 1, 3):
                browser.execute_script(
                    "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))", slider, values[step]
                )
                browser.execute_script("arguments[0].id = 'tested'", row.find_element("css selector", "canvas"))
                difference = pixels(browser, "#tested") - to_levels(exact.images[number, step, 0])
                assert np.abs(difference).max() <= 1, (number, step)
                browser.execute_script("arguments[0].id = ''", row.find_element("css selector", "canvas"))
    slider.send_keys("\ue011")  # the key Home
    assert float(row.find_element("css selector", "output").text) == values[0]


@pytest.mark.parametrize("name", ["pendulum", "images", "vectors"])
def test_a_path_of_the_page_is_that_of_hv_paths(browser, pages, name):
    run, page = pages[name]
    one = show(browser, page)
    width = one["nodes"]["width"]
    nodes, ends = (unpack(one["nodes"][key], "<f4").reshape(-1, width) for key in ("nodes", "ends"))
    random, largest = np.random.default_rng(0), 0.0
    for _ in range(8):
        pair = random.permutation(len(ends))[:2].tolist()
        found = browser.execute_script("return explorer.findPath(arguments[0], arguments[1])", *pair)
        codes = np.concatenate([nodes, ends[pair]])
        last = [len(nodes), len(nodes) + 1]
        (exact,) = hv.paths(None, lambda z: z, codes, [last], k=one["nodes"]["neighbours"]).graph_paths
        assert found["indices"] == exact.indices.tolist() and found["neighbours"] == exact.neighbours
        largest = max(largest, abs(found["length"] - exact.length))
    print(f"largest difference of a length: {largest:.1g}")
    assert largest < 1e-9  # both compute in double precision


def test_two_clicks_draw_a_path_and_its_strip(browser, pages):
    run, page = pages["images"]
    one = show(browser, page)
    part(browser, "path").click()
    assert "first end" in part(browser, "path-text").text
    point_at(browser, (0.3, 0.4), click=True)
    assert "Choose the other end" in part(browser, "path-text").text
    point_at(browser, (0.7, 0.6), click=True)
    path = browser.execute_script("return explorer.path()")
    strip = browser.find_elements("css selector", "#explorer .strip canvas")
    assert len(strip) == len(path["indices"]) > 2 and f"{len(strip)} points" in part(browser, "path-text").text
    nodes = unpack(one["nodes"]["nodes"], "<f4").reshape(-1, one["nodes"]["width"])
    inner = hv.decode(run.model, {"z1": nodes[path["indices"][1:-1]].copy()})[:, 0]
    pictured = unpack(one["pictured"], "<u4").astype(int)[path["ends"]]
    data = torch.cat([split.x[:] for split in (run.dataset.train, run.dataset.validation, run.dataset.test)])[pictured]
    start, end = hv.reconstruct(run.model, run.guide, data)[:, 0].numpy()
    for number, exact in enumerate([start, *inner, end], 1):
        found = pixels(browser, f"#explorer .strip canvas:nth-child({number})")
        assert np.abs(found - to_levels(exact)).max() <= 1
    part(browser, "path").click()
    assert not browser.find_elements("css selector", "#explorer .strip canvas") and not part(browser, "path-text").text


def test_all_of_it_works_by_keyboard(browser, pages):
    _, page = pages["vectors"]
    show(browser, page)
    browser.execute_script("document.querySelector('#explorer [data-part=map]').focus()")
    seen = []
    for _ in range(8):  # the order of the tab key
        seen.append(browser.execute_script("return document.activeElement.dataset.part ?? document.activeElement.type"))
        browser.switch_to.active_element.send_keys(" " if seen[-1] == "path" else "", "\ue004")
    assert seen[:6] == ["map", "colour", "path", "overlay", "select-one", "range"], seen
    before = browser.execute_script("return [explorer.cursor(), explorer.datum()]")
    press(browser, *["\ue012"] * 8, "\ue007")  # left, then Enter
    assert "Choose the other end" in part(browser, "path-text").text
    press(browser, *["\ue014"] * 14, "\ue013", " ")
    after = browser.execute_script("return [explorer.cursor(), explorer.datum()]")
    assert "points of the graph" in part(browser, "path-text").text and after[0] != before[0] and after[1] != before[1]
    press(browser, *["\ue014"] * 40)
    assert browser.execute_script("return explorer.cursor()[0]") == 1


def test_colours_and_maps_can_be_chosen_and_names_stay_text(browser, pages):
    errors(browser)
    one = show(browser, pages["vectors"][1])
    kind = next(column for column in one["columns"] if column["kind"] == "classes" and column["name"].startswith("kind"))
    assert sorted(item.text for item in browser.find_elements("css selector", "#explorer [data-part=legend] li")) == sorted(
        kind["levels"]
    )
    point_at(browser, (0.5, 0.5), click=True)
    assert f"kind{SCRIPT}: " in part(browser, "datum-text").text
    options = [option.text for option in part(browser, "colour").find_elements("css selector", "option")]
    assert options == [column["name"] for column in one["columns"] if column["kind"] != "row"] + ["nothing"]
    assert browser.execute_script("return window.hacked") is None and errors(browser) == []
    shown = browser.execute_script("return explorer.values(explorer.decode([0.5, 0.5]))")
    low, high = one["vector"]["low"], one["vector"]["high"]
    assert all(a <= value <= b for a, value, b in zip(low, shown, high, strict=True))

    one = show(browser, pages["images"][1])
    select = part(browser, "map")
    text = part(browser, "axes").text
    browser.execute_script("arguments[0].value = 1; arguments[0].dispatchEvent(new Event('change'))", select)
    assert "principal component of z1" in text and "second dimension of z2" in part(browser, "axes").text
    colours = count_colours(browser)
    browser.execute_script("arguments[0].value = ''; arguments[0].dispatchEvent(new Event('change'))", part(browser, "colour"))
    assert colours == 10 and count_colours(browser) == 1


def count_colours(browser):
    """Colours of the points on the map."""
    return browser.execute_script(
        """
        const canvas = document.querySelector("#explorer [data-part=points]"), context = canvas.getContext("2d");
        const words = new Uint32Array(context.getImageData(0, 0, canvas.width, canvas.height).data.buffer);
        return new Set(words.filter((word) => word)).size;
        """
    )


def test_sixty_thousand_points_are_drawn_in_time(browser, tmp_path, pendulum_run):
    run = open_run(pendulum_run, dataset="pendulum", data_options={"size": "62000"}, force=True)
    write_report([run], tmp_path / "page.html")
    one = show(browser, tmp_path / "page.html")
    assert one["count"] == 60_000 and "60,000 random ones" in one["about"]
    assert (tmp_path / "page.html").stat().st_size < 10_000_000
    opened, frames = [], []
    for _ in range(3):
        show(browser, tmp_path / "page.html")
        opened.append(browser.execute_script("return performance.getEntriesByName('explorer')[0].startTime"))
        frames += browser.execute_script(
            "const now = () => performance.now(), draw = () => { const t = now(); explorer.drawMap(); return now() - t; };"
            "return [draw(), draw(), draw()]"
        )
    assert min(opened) < 2000 and np.median(frames) < 100, (opened, frames)
    assert count_colours(browser) > 100  # the angle


def test_several_runs_share_a_page(browser, tmp_path, pages):
    errors(browser)
    write_report([pages[name][0] for name in ("pendulum", "vectors")], tmp_path / "page.html")
    show(browser, tmp_path / "page.html")
    select, before = part(browser, "run"), part(browser, "about").text
    browser.execute_script("arguments[0].value = 1; arguments[0].dispatchEvent(new Event('change'))", select)
    deadline = time.time() + 10
    while part(browser, "about").text == before and time.time() < deadline:
        time.sleep(0.05)
    assert "200 data, all parts, of table.csv" in part(browser, "about").text and errors(browser) == []


def test_a_page_fits_a_phone_a_dark_page_and_paper(browser, pages):
    page = pages["images"][1]
    try:
        resize(browser, 390, 844)
        show(browser, page)
        assert browser.execute_script("return document.documentElement.scrollWidth") == 390
        assert part(browser, "overlay").size["width"] > 330
        emulate(browser, scheme="dark")
        background = "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
        assert max(browser.execute_script(background)) < 60
        emulate(browser, scheme="dark", media="print")
        assert min(browser.execute_script(background)) == 255 and not browser.find_element("css selector", "nav").is_displayed()
        assert browser.find_element("css selector", "#configuration pre").size["height"] > 100  # it opens on paper
    finally:
        emulate(browser)
        resize(browser, 1280, 1400)
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert pdf.startswith(b"%PDF") and 2 <= pdf.count(b"/Type /Page\n") <= 20, pdf.count(b"/Type /Page\n")
