"""Errors say what to do next."""

import pytest

from pyro_hvae.errors import ConfigError, DeviceError, missing_extra, python_advice, unknown_name


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


def test_advice_is_said_as_it_is_typed_in_python():
    typed = "Use -o network=mlp, or -o hidden=32,64 (pyro-hvae train -o seed=1), or --checkpoint best."
    with pytest.raises(ConfigError) as caught, python_advice():
        raise ConfigError(typed)
    assert str(caught.value) == "Use network=mlp, or hidden=32,64 (pyro-hvae train -o seed=1), or checkpoint='best'."
    assert python_advice()(lambda: 3)() == 3
