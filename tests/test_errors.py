"""Errors say what to do next."""

from pyro_hvae.errors import DeviceError, missing_extra, unknown_name


def test_a_missing_extra_is_installed_from_the_clone():
    error = missing_extra("tensorboard", "--track tensorboard")
    assert isinstance(error, DeviceError) and error.exit_code == 5
    assert str(error) == (
        "--track tensorboard needs the extra 'tensorboard'. "
        "Install it in the clone of pyro-hvae: pip install -e '.[tensorboard]'."
    )


def test_an_unknown_name_lists_the_known_ones():
    assert str(unknown_name("metric", "angel", ["mig", "angle"])) == (
        "no metric called 'angel'. Did you mean 'angle'? Known: angle, mig."
    )
    assert str(unknown_name("metric", "x", [])) == "no metric called 'x'. Known: none."
