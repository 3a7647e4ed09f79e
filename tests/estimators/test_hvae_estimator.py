"""The estimator: scikit-learn's own checks, densities in the units of X, pipelines, missing entries, copies."""

import pickle

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import pyro_hvae as hv
from pyro_hvae.errors import ConfigError, DataError, DivergenceError

SMALL = {"hidden": (4,), "steps": 3, "score_particles": 2, "random_state": 0}
WINE = load_wine().data


@pytest.fixture(scope="module")
def fitted():
    return hv.HVAE("hvae", dims=(3, 2), upper=(4,), **SMALL).fit(WINE)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_the_checks_of_scikit_learn_pass():
    found = {row["check_name"]: row["status"] for row in check_estimator(hv.HVAE("vae", **SMALL), on_fail=None)}
    others = {name: status for name, status in found.items() if status != "passed"}
    assert len(found) >= 40 and others == {"check_array_api_input": "skipped"}  # it needs SCIPY_ARRAY_API


def test_codes_of_all_layers_stand_side_by_side(fitted):
    codes = fitted.transform(WINE)
    assert fitted.layers_ == {"z1": (3,), "z2": (2,)} and codes.shape == (178, 5)
    assert list(fitted.get_feature_names_out()) == ["z1_0", "z1_1", "z1_2", "z2_0", "z2_1"]
    standard = torch.tensor((WINE - WINE.mean(0)) / WINE.std(0))
    expected = hv.latents(fitted.guide_, standard, mean=True)
    np.testing.assert_allclose(codes, torch.cat([expected["z1"], expected["z2"]], 1), rtol=1e-9)
    decoded = hv.reconstruct(fitted.model_, fitted.guide_, standard).numpy() * WINE.std(0) + WINE.mean(0)
    np.testing.assert_allclose(fitted.inverse_transform(codes), decoded, rtol=1e-9)
    with pytest.raises(ConfigError, match=r"Z has 2 columns, but a code has 5: z1 of shape \(3,\), z2 of shape \(2,\)"):
        fitted.inverse_transform(codes[:, :2])


def test_the_density_is_exact_in_the_units_of_the_rows():
    """Linear decoder: x ~ N(m + s b, s (W W^T + sigma^2 1) s), in closed form, also of what is known of a row."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3)) @ rng.normal(size=(3, 3)) * [1.0, 30.0, 0.1] + [5.0, -300.0, 0.01]
    made = hv.HVAE("vae", latent=2, hidden=(), score_particles=20_000, random_state=1, patience=0)
    made.set_params(steps=400, learning_rate=1e-2).fit(x)
    with torch.no_grad():
        zero, basis = (made.model_.likelihood(torch.tensor(z, dtype=torch.float64)) for z in (np.zeros((1, 2)), np.eye(2)))
    mean, sigma = zero.mean[0].numpy(), zero.stddev[0].numpy()
    w = (basis.mean - zero.mean).numpy().T
    m, s = x.mean(0), x.std(0)
    exact = multivariate_normal(m + s * mean, (w @ w.T + np.diag(sigma**2)) * np.outer(s, s))
    np.testing.assert_allclose(made.score_samples(x[:5]), exact.logpdf(x[:5]), atol=0.02)
    assert made.score(x[:5]) == pytest.approx(exact.logpdf(x[:5]).mean(), abs=0.01)
    known = [0, 2]
    partly = x[:5].copy()
    partly[:, 1] = np.nan
    marginal = multivariate_normal(exact.mean[known], exact.cov[np.ix_(known, known)])
    np.testing.assert_allclose(made.score_samples(partly), marginal.logpdf(x[:5, known]), atol=0.02)
    drawn = made.sample(20_000)
    np.testing.assert_allclose(drawn.mean(0), exact.mean, atol=4 * (np.diag(exact.cov) / 20_000).max() ** 0.5)
    np.testing.assert_allclose(np.corrcoef(drawn.T), exact.cov / np.outer(*[np.diag(exact.cov) ** 0.5] * 2), atol=0.03)


def test_noise_is_that_of_the_random_state(fitted):
    again = clone(fitted).fit(WINE)
    assert (again.transform(WINE) == fitted.transform(WINE)).all()
    assert (again.sample(4) == fitted.sample(4)).all() and (
        again.score_samples(WINE[:5]) == fitted.score_samples(WINE[:5])
    ).all()
    assert (fitted.sample(4) != fitted.sample(4, random_state=1)).any()
    np.testing.assert_allclose(fitted.score_samples(WINE[3:5]), fitted.score_samples(WINE[:5])[3:], rtol=1e-12)
    other = clone(fitted).set_params(random_state=1).fit(WINE)
    assert (other.transform(WINE) != fitted.transform(WINE)).any()
    state = torch.get_rng_state()
    fitted.sample(2), fitted.score_samples(WINE[:2]), fitted.inverse_transform(fitted.transform(WINE[:2]))
    assert torch.equal(state, torch.get_rng_state())


def test_a_copy_by_pickle_is_the_same(fitted):
    copy = pickle.loads(pickle.dumps(fitted))
    assert (copy.transform(WINE) == fitted.transform(WINE)).all() and copy.history_ == fitted.history_


def test_options_are_parameters_for_clones_and_grid_searches(fitted):
    assert fitted.get_params()["dims"] == (3, 2) and clone(fitted).get_params() == fitted.get_params()
    assert "dims=(3, 2)" in repr(fitted) and "model_" not in fitted.get_params()
    search = GridSearchCV(hv.HVAE("vae", **SMALL), {"latent": [1, 2]}, cv=2, error_score="raise").fit(WINE)
    assert search.best_estimator_.transform(WINE).shape[1] == search.best_params_["latent"]
    steps = make_pipeline(StandardScaler(), hv.HVAE("vae", **SMALL), LogisticRegression())
    steps.set_params(hvae__latent=3, hvae__steps=2).fit(WINE, load_wine().target)
    assert steps[-1].coef_.shape == (3, 3) and steps[1].n_iter_ == 2


def test_tables_of_pandas_keep_their_index_and_names(fitted):
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(WINE.astype("float32"), columns=load_wine().feature_names, index=range(5, 183))
    made = hv.HVAE("vae", **SMALL).set_output(transform="pandas")
    codes = made.fit_transform(table)
    assert list(codes.columns) == ["z1_0", "z1_1"] and list(codes.index) == list(table.index)
    assert (codes.dtypes == "float32").all() and list(made.feature_names_in_) == list(table.columns)
    table["ash"] = np.nan
    with pytest.raises(DataError, match="column ash of X has no value in any row"):
        clone(made).fit(table)


def test_missing_entries_are_learned_from_what_is_known():
    x = WINE.copy()
    x[::3, 2] = np.nan
    made = hv.HVAE("vae", **SMALL).fit(x)
    assert np.isfinite(made.transform(x)).all() and np.isfinite(made.score_samples(x)).all()
    filled = np.where(np.isnan(x), 1e3, x)
    assert (made.transform(filled)[::3] != made.transform(x)[::3]).any()


def test_images_are_rows_with_a_shape():
    x = np.random.default_rng(0).random((20, 64)) > 0.5
    made = hv.HVAE("vae", network="conv", likelihood="bernoulli", shape=(1, 8, 8), **{**SMALL, "hidden": (2, 4)}).fit(x)
    assert made.sample(2).shape == (2, 64) and set(np.unique(made.sample(5))) <= {0.0, 1.0}
    np.testing.assert_allclose(made.score(x), made.score_samples(x).mean())  # a probability: nothing is standardised
    assert made.score(x) < 0
    with pytest.raises(ConfigError, match=r"shape=\(1, 8, 9\) has 72 numbers, but a row of X has 64"):
        made.set_params(shape=(1, 8, 9)).fit(x)


def test_patience_keeps_the_weights_of_the_best_bound():
    made = hv.HVAE("vae", latent=4, hidden=(64,), steps=400, learning_rate=1e-2, patience=3, eval_every=10, random_state=0)
    made.set_params(schedule="constant").fit(WINE[:60])
    bounds = [row["validation_elbo"] for row in made.history_ if "validation_elbo" in row]
    assert made.n_iter_ < 400 and "Stopped early" in made.history_.ending
    assert max(bounds) == bounds[-4] and made.n_iter_ == 10 * len(bounds)
    everything = clone(made).set_params(patience=0, steps=20).fit(WINE[:60])
    assert everything.n_iter_ == 20 and "validation_elbo" not in everything.history_[-1]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"recipe": "vea"}, "Did you mean 'vae'"),
        (
            {"latnet": 3},
            r"^no parameter of HVAE\('vae', schedule='constant'\) called 'latnet'. Did you mean 'latent'\? Known: .*hidden",
        ),
        ({"learning_rat": 3}, "Did you mean 'learning_rate'"),
        ({"kappa": 3}, r"no parameter of HVAE\('vae', schedule='constant'\) called 'kappa'"),
        ({"lr": 0.1}, "no option of an estimator. Use learning_rate="),
        ({"schedule": "warm"}, "no schedule called 'warm'"),
        ({"validation": 1.5}, "validation=1.5 is the share"),
        ({"validation": "a", "patience": 0}, "validation='a' is the share"),
        ({"standardize": "yes"}, "standardize='yes' is none of True"),
        ({"shape": (-1, 13)}, r"shape=\(-1, 13\) is the shape of a datum"),
        ({"shape": 13}, "shape=13 is the shape of a datum"),
        ({"score_particles": 2.5}, "score_particles=2.5 is no whole number"),
        ({"optimizer": 5}, r"optimizer=5 is neither a name \(adam, .*Example: optimizer=lambda parameters: .*lr=1e-3"),
        ({"optimizer": "adamv"}, "no optimizer called 'adamv'. Did you mean 'adam'"),
        ({"learning_rate": -1.0}, "^learning_rate must be positive"),
        ({"random_state": -1}, "^random_state must not be negative"),
        ({"latent": 2.5}, "latent=2.5 is not a whole number. Example: latent=2"),
        ({"likelihood": "poisson"}, "counts"),
        ({"likelihood": "poisson", "standardize": True}, "standardised"),
    ],
)
def test_what_does_not_fit_is_said(options, message):
    with pytest.raises(ConfigError, match=message):
        hv.HVAE(**{"recipe": "vae", **SMALL, **options}).fit(WINE)


def test_parameters_are_checked_before_data_are_touched():
    for options in ({"latnet": 3}, {"validation": 2}, {"optimizer": 5}, {"steps": 0}):
        with pytest.raises(ConfigError):
            hv.HVAE("vae", **{**SMALL, **options}).fit("no data")


def test_advice_is_in_parameters():
    wrong = hv.HVAE("vae", network="conv", **SMALL)
    with pytest.raises(ConfigError, match=r"Use network=mlp\.$"):
        wrong.fit(WINE)
    wrong.set_params(network="mlp").fit(WINE)
    wrong.set_params(learning_rate=1e5, steps=100, schedule="constant")
    with pytest.raises(DivergenceError, match=r"Try learning_rate=0.001 and grad_clip=10\.$"):
        wrong.fit(WINE)
    assert wrong.set_params(learning_rate=1e-3, grad_clip=10).fit(WINE).n_iter_ == 100


def test_views_backwards_are_read_as_they_are(fitted):
    views = [WINE[::-1], np.ascontiguousarray(WINE[:, ::-1])[:, ::-1], WINE.astype("float32")[::-1]]
    for view in views:
        assert min(view.strides) < 0
        np.testing.assert_array_equal(fitted.score_samples(view), fitted.score_samples(view.copy()))
        np.testing.assert_array_equal(fitted.transform(view), fitted.transform(view.copy()))
        codes = fitted.transform(view)
        np.testing.assert_array_equal(fitted.inverse_transform(codes[::-1]), fitted.inverse_transform(codes[::-1].copy()))
    again = clone(fitted).fit(views[1])
    np.testing.assert_array_equal(again.transform(WINE), fitted.transform(WINE))
    column = WINE[:, :1][:, ::-1]
    assert min(column.strides) < 0 and hv.HVAE("vae", **SMALL).fit(column).sample(2).shape == (2, 1)


@pytest.mark.parametrize("count", [0, -1, 2.5, True, "3", None])
def test_only_whole_numbers_of_samples_are_drawn(fitted, count):
    with pytest.raises(ConfigError, match=f"n_samples={count!r} is no whole number of at least 1"):
        fitted.sample(count)


def test_columns_of_every_size_have_the_density_of_their_unit():
    """x -> a x + b of a column takes log a off the density, and does the same with samples and reconstructions."""
    made, rows = hv.HVAE("vae", **SMALL).fit(WINE), WINE[:9]
    for unit, offset in ((1e300, 0.0), (1e-300, 0.0), (2.0**20, 2.0**40)):
        x, more = WINE.copy(), rows.copy()
        x[:, 3], more[:, 3] = unit * x[:, 3] + offset, unit * more[:, 3] + offset
        other = clone(made).fit(x)
        np.testing.assert_allclose(other.score_samples(more), made.score_samples(rows) - np.log(unit), rtol=1e-4)
        for values, plain in (
            (other.sample(5), made.sample(5)),
            (other.inverse_transform(other.transform(more)), made.inverse_transform(made.transform(rows))),
        ):
            np.testing.assert_allclose((values[:, 3] - offset) / unit, plain[:, 3], rtol=1e-3)
    x[:, 3] = 1e305 * WINE[:, 3]
    with pytest.raises(DataError, match="^column 3 has values up to .*too large"):
        made.fit(x)


@pytest.mark.parametrize(
    ("column", "why"),
    [(lambda x: 1e300 * x, "has values up to"), (lambda x: 1e-300 * x, "varies by"), (lambda x: x + 1e10, "varies by")],
)
def test_without_standardisation_columns_that_single_precision_does_not_hold_are_named(column, why):
    x = WINE.copy()
    x[:, 3] = column(x[:, 3])
    x[::7, 3] = np.nan
    plain = hv.HVAE("vae", standardize=False, **SMALL)
    with pytest.raises(DataError, match=f"^column 3 of X {why} .* single precision.*or use standardize=True"):
        plain.fit(x)
    assert np.isfinite(plain.set_params(standardize=True).fit(x).transform(x)).all()
