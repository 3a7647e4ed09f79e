"""Compares the spread of training data with the scale of their likelihood: defaults made for pixels do not suit every unit."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal

from pyro_hvae.data import Batch, Rows
from pyro_hvae.objectives import draw_sites, location_scale
from pyro_hvae.runtime import fixed_seed

FAR = 5.1  # times the scale, and its inverse; standardised data under sigma = 0.2 are 5 times it
MEASURED = 2**22  # numbers at most


@torch.no_grad()
def describe_scale(x: Tensor | Batch | Rows, model: Any) -> str:
    """A warning when the data's standard deviation is far from the scale of a Gaussian or Laplace p(x | z), else an empty text.

    The standard deviation is that over data, squared and averaged over the values of a datum that vary at all.

    >>> import pyro_hvae as hv
    >>> model = hv.Chain(hv.StandardNormal(1), [], hv.Gaussian(1, 2, scale=0.2))
    >>> x = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
    >>> describe_scale(x, model), describe_scale(1e3 * x, model)[:77]
    ('', 'the training data have a standard deviation of 1e+03, 5e+03 times the sigma o')
    """
    site = draw_sites(model, x).get("x")
    base = None if site is None else location_scale(site["fn"])
    if base is None or base.scale.shape[1:] != x.shape[1:]:
        return ""
    with fixed_seed(0):
        values = Rows.of(x).alone.sample(MEASURED).cpu().double()
    deviation = (values - values.nanmean(0)).square().nanmean(0).sqrt()
    varies = deviation > 1e-12 * values.nan_to_num().abs().amax(0)
    deviation, scale = deviation[varies], base.scale[0].cpu().double()[varies]
    ratio = (deviation / scale).square().mean().sqrt().item()
    if not (ratio < 1 / FAR or FAR < ratio < math.inf):  # nor where nothing varies, or values are not finite
        return ""
    gaussian, std, low, high = isinstance(base, Normal), deviation.square().mean().sqrt().item(), *deviation.aminmax()
    vectors, standard = values.dim() == 2, bool(((deviation - 1).abs() < 0.01).all())
    columns = f" (columns from {low:.3g} to {high:.3g})" if vectors and low < 0.99 * high else ""
    name, kind = ("sigma", "Gaussian") if gaussian else ("scale", "Laplace")
    effect = "squared errors drown all other terms" if ratio > 1 else "what the data differ in is taken for noise"
    advice = "Standardise them (of a file of vectors: standardize=true), or " if vectors and not standard else ""
    learn = ", and train it by learn_sigma=true (hv.Gaussian: scale, learn_scale)" if gaussian else " (hv.Laplace: scale)"
    text = f"{advice}give the likelihood a scale near theirs, such as sigma={std / 4:.2g}{learn}."
    return (
        f"the training data have a standard deviation of {std:.3g}{columns}, {ratio:.3g} times the {name} of their {kind} "
        f"likelihood, {scale.square().mean().sqrt():.3g}: {effect}. {text[0].upper()}{text[1:]}"
    )
