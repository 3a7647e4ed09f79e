"""Options read from the source are those that the functions have, and a wrong one is refused before torch is imported."""

import subprocess
import sys

import pytest

from pyro_hvae.cli.option_names import check_option_names, known_options
from pyro_hvae.data import DATASETS
from pyro_hvae.errors import ConfigError
from pyro_hvae.recipes import RECIPES
from pyro_hvae.runs import TrainConfig, parameters, resolve
from pyro_hvae.schedules import SCHEDULES


@pytest.mark.parametrize("recipe", RECIPES)
def test_options_are_those_of_the_functions(recipe):
    for dataset in DATASETS:
        for schedule in SCHEDULES:
            takers = RECIPES[recipe].build, DATASETS[dataset].load, SCHEDULES[schedule], TrainConfig
            expected = {"preset"}.union(*(parameters(taker) for taker in takers))
            assert known_options(recipe, dataset, schedule) == expected


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_answer_is_that_of_the_full_check(recipe):
    for dataset in ("pendulum", "digits", "mnist"):
        with pytest.raises(ConfigError) as full:
            resolve(recipe, dataset, None, {"betta": "3"})
        with pytest.raises(ConfigError) as early:
            check_option_names(recipe, dataset, None, {"betta": "3"})
        assert str(early.value) == str(full.value)


def test_what_it_does_not_know_is_left_to_the_full_check():
    check_option_names("vea", "pendulum", None, {"betta": "3"})
    check_option_names("vae", "my/images", None, {"betta": "3"})
    check_option_names("vae", "pendulum", "fast", {"betta": "3"})
    check_option_names(None, None, None, {"betta": "3"})
    check_option_names("vae", "pendulum", None, {"beta": "3", "steps": "10", "preset": "cpu"})


def test_an_unknown_option_is_answered_without_torch():
    code = (
        "import sys\nfrom pyro_hvae.cli import main\n"
        "try:\n    main(['train', 'vhp', '--dataset', 'pendulum', '-o', 'betta0=1'])\n"
        "finally:\n    assert not {'torch', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2 and "called 'betta0'. Did you mean 'beta0'?" in done.stderr
