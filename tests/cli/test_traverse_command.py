"""pyro-hvae traverse, and layers --grid."""

import json

import pytest


@pytest.fixture
def run(hvae_run):
    return hvae_run


@pytest.fixture
def second(command):
    """Trains another run in this process."""

    def train(recipe, out, *options):
        quick = ["--dataset", "digits", "--steps", 100, "-o", "hidden=8", "-o", "lr=0.01"]
        code, _, err = command("train", recipe, *quick, *options, "--out", out)
        assert code == 0, err
        return out

    return train


def test_one_run(run, command):
    code, out, err = command("traverse", run)
    assert code == 0, err
    assert (run / "figures/traversals.png").read_bytes().startswith(b"\x89PNG") and str(run / "figures/traversals.png") in out
    assert "over 300 test data" in out and "dead and left out" in out
    code, out, _ = command("traverse", run, "--image", 5, "--most", 1, "--steps", 3, "--range", 1, "--draws", 4, "--json")
    values = json.loads(out)
    assert code == 0 and values["image"] == 5 and values["figures"] == [str(run / "figures/traversals.png")]
    (one,) = values["runs"]
    assert [row["site"] for row in one["rows"]] == ["z2", "z1"] and set(one["dead"]) == {"z2", "z1"}
    assert all(row["variance"] > 0.01 for row in one["rows"])
    code, again, _ = command("traverse", run, "--image", 5, "--most", 1, "--steps", 3, "--range", 1, "--draws", 4, "--json")
    assert again == out


def test_runs_side_by_side(run, command, second, tmp_path):
    other = second("vae", "other", "-o", "latent=3")
    code, out, err = command("traverse", run, other, "--picture", "both.png", "--json")
    assert code == 0, err
    values = json.loads(out)
    assert values["figures"] == ["both.png"] and (tmp_path / "both.png").read_bytes().startswith(b"\x89PNG")
    first, last = values["runs"]
    assert first["run"] == str(run) and last["run"] == "other" and {row["site"] for row in last["rows"]} == {"z1"}
    assert len(last["rows"]) + last["dead"]["z1"] == 3
    code, out, _ = command("traverse", other, run, "--json")
    assert code == 0 and json.loads(out)["figures"] == ["other/figures/traversals.png"]
    assert json.loads(out)["runs"] == [last, first]


def test_runs_of_other_data_are_refused(run, command, second):
    other = second("vae", "other", "-o", "data_seed=1")
    code, out, err = command("traverse", run, other)
    assert code == 2 and not out
    assert (
        str(run) in err
        and "(digits, data_seed=0, shape 1 x 8 x 8)" in err
        and "other (digits, data_seed=1, shape 1 x 8 x 8)" in err
    )


def test_a_collapsed_run_is_named(run, command, second):
    other = second("vae", "collapsed", "-o", "beta=1000")
    code, out, err = command("traverse", run, other)
    assert code == 2 and "collapsed: nothing to traverse: the posterior has collapsed" in err and not out


def test_grids_of_the_layers_of_two_dimensions(run, command):
    code, out, err = command("layers", run, "--grid", "--cells", 4)
    assert code == 0, err
    assert (run / "figures/layer_grid.png").read_bytes().startswith(b"\x89PNG")
    assert "Left out: z1, which has 3 dimensions" in out and "layer_grid.png" in out
    code, out, _ = command("layers", run, "--grid", "--cells", 4, "--json")
    assert code == 0 and json.loads(out)["layers"] == ["z2"] and json.loads(out)["left_out"] == {"z1": 3}
    code, out, _ = command("layers", run, "--grid", "--cells", 4, "--site", "z2", "--image", 3, "--reach", 1, "--json")
    values = json.loads(out)
    assert code == 0 and values["layers"] == ["z2"] and values["left_out"] == {} and values["reach"] == 1
    assert values["figures"] == [str(run / "figures/layer_grid_z2_image3.png")]


def test_no_layer_of_two_dimensions(command, second):
    other = second("vae", "other", "-o", "latent=5")
    code, out, err = command("layers", other, "--grid")
    assert code == 2 and "two dimensions, but z1 has 5" in err and "'traverse'" in err and not out


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["traverse", "--image", "300"], "--image is the index of one of the 300 test data, got 300"),
        (["traverse", "--image", "-1"], "--image must be at least 0, got -1"),
        (["traverse", "--range", "0"], "positive and finite, got 0"),
        (["traverse", "--range", "nan"], "positive and finite, got nan"),
        (["traverse", "--steps", "1"], "--steps must be from 2 to 100, got 1"),
        (["traverse", "--most", "0"], "--most must be at least 1, got 0"),
        (["traverse", "--draws", "1"], "draws=1"),
        (["traverse", "--picture", "rows.jpeg2"], "--picture is the name of a .png, .pdf, .svg file, got 'rows.jpeg2'"),
        (["traverse", "--checkpoint", "worst"], "no checkpoint called 'worst'"),
        (["layers", "--grid", "--site", "z1"], "two dimensions, but z1 has 3"),
        (["layers", "--grid", "--site", "z9"], "no latent site called 'z9'"),
        (["layers", "--grid", "--cells", "1"], "--cells must be from 2 to 50, got 1"),
        (["layers", "--grid", "--reach", "inf"], "positive and finite, got inf"),
        (["layers", "--grid", "--image", "300"], "--image is the index"),
        (["layers", "--grid", "--n", "5"], "--n does not go with --grid"),
        (["layers", "--cells", "5"], "--cells needs --grid"),
    ],
)
def test_bad_input(run, command, arguments, message):
    code, out, err = command(arguments[0], run, *arguments[1:])
    assert code == 2 and message in err and not out and len(err.strip().splitlines()) == 1, err
