"""Posteriors q(z_l | x) of every layer of a guide, for metrics of the aggregate posterior."""

from collections.abc import Callable
from typing import Any

import pyro
import torch
from pyro.infer.inspect import TrackProvenance
from pyro.ops.provenance import get_provenance
from torch import Tensor

from pyro_hvae.data import Batch, Rows
from pyro_hvae.errors import ConfigError
from pyro_hvae.metrics import Posteriors
from pyro_hvae.objectives import Record, Share, Site, run_program, scalar_family, takes_data
from pyro_hvae.runtime import fixed_seed, in_evaluation_mode

ROWS = 4096  # (datum, draw) pairs at once
PROBED = 16  # data that show what a site depends on; two data could be equal


@takes_data
@torch.no_grad()
@in_evaluation_mode
def posteriors(guide: Callable[..., Any], x: Tensor | Batch | Rows, draws: int = 16, seed: int = 0) -> dict[str, Posteriors]:
    r"""Site -> `Posteriors` over its values, flattened, in the guide's order.

    A site that depends on x alone has a Gaussian posterior. That of a layer above the first of a stochastic chain,
    $q(z_l \mid x) = E_{q(z_{l-1} \mid x)} q(z_l \mid z_{l-1})$, becomes the mixture over `draws` draws of the sites before it.

    Arguments:
        x: data of shape (N, *event). draws: M. seed: of the draws.

    Raises:
        ConfigError: for fewer than two draws of a stochastic chain, or a guide whose distributions are not Gaussian.
    """
    with fixed_seed(seed):
        mixed = find_dependent(guide, x[:PROBED], lambda site: _require_gaussian(site["name"], site), max(2, draws))
        if draws < 2 and any(mixed.values()):
            raise ConfigError(f"draws={draws}: layers above the first are mixtures over two draws or more, such as draws=16.")
        size = draws if any(mixed.values()) else 1
        batches = [_gaussian_parameters(guide, batch, size) for batch in x.split(max(1, ROWS // size))]
    found = dict[str, Posteriors]()
    for name, mixture in mixed.items():
        laws = [torch.cat([batch[name][i] for batch in batches]) for i in (0, 1)]
        if not mixture or all((values == values[:, :1]).all() for values in laws):  # the draws make no difference for any datum
            laws = [values[:, :1] for values in laws]
        found[name] = Posteriors(*laws)
    return found


def sites_of_draws(guide: Callable[..., Any], x: Tensor | Batch, draws: int) -> dict[str, Site]:
    """Site -> Pyro's message in one run of the guide that draws several times for each datum, (draws, B, *event)."""
    with pyro.validation_enabled(False), Record() as record, Share((), draws):
        run_program(guide, x)
    return record.sites


def find_dependent(
    guide: Callable[..., Any], x: Tensor | Batch, law: Callable[[Site], tuple[Tensor, ...] | None], draws: int = 2
) -> dict[str, bool]:
    """Site -> whether its law may depend on the draws of other sites.

    Some draws of some data do not tell: discrete values coincide, and a unit that is cut off for these data is not for others.
    So a law counts as dependent that is computed from other draws, as Pyro's provenance tracks it, or that follows a site of
    discrete values, which are often read in a way that provenance loses. What is not dependent on either varies with no draw.

    Arguments:
        law: parameters of a recorded site, (draws, B, ...), or None where they do not tell its law, which is then dependent.
    """
    with TrackProvenance():
        sites = sites_of_draws(guide, x, draws)
    dependent, after_discrete = dict[str, bool](), False
    for name, site in sites.items():
        values = law(site)
        differ = values is None or any(not torch.equal(value, value[:1].expand_as(value)) for value in values)
        dependent[name] = differ or after_discrete or not get_provenance(values).isdisjoint(sites)
        after_discrete |= scalar_family(site["fn"]).support.is_discrete
    return dependent


def _gaussian_parameters(guide: Callable[..., Any], x: Tensor | Batch, draws: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Site -> means and standard deviations for each draw of the sites before it, (B, draws, features) on the CPU."""
    parameters = {}
    for name, site in sites_of_draws(guide, x, draws).items():
        values = _require_gaussian(name, site)
        parameters[name] = tuple(t.reshape(*t.shape[:2], -1).transpose(0, 1).cpu() for t in values)
    return parameters


@takes_data
@torch.no_grad()
@in_evaluation_mode
def class_posteriors(guide: Callable[..., Any], x: Tensor | Batch | Rows, draws: int = 16, seed: int = 0) -> dict[str, Tensor]:
    r"""Site -> table of the probabilities $q(z = k \mid x_n)$, (N, *event, K), of the sites with classes, in the guide's order.

    Such sites are `Categorical` and `OneHotCategorical` ones, whose K classes are the last dim, and `Bernoulli` ones (0, 1).
    The table of a site that depends on others is the mean over `draws` draws of these.

    Raises:
        ConfigError: for a guide without such sites, or fewer than one draw.

    >>> import pyro.distributions as dist
    >>> def guide(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("z1", dist.Categorical(logits=x))
    >>> class_posteriors(guide, torch.tensor([[1.0, 1.0], [1.0, 3.0]]).log())["z1"]
    tensor([[0.5000, 0.5000],
            [0.2500, 0.7500]])
    """
    if draws < 1:
        raise ConfigError(f"draws={draws}: tables are means over one draw or more, such as draws=16.")
    batches = list[dict[str, Tensor]]()
    with fixed_seed(seed):
        for batch in x.split(max(1, ROWS // draws)):
            sites = sites_of_draws(guide, batch, draws)
            found = {name: class_probabilities(site["fn"]) for name, site in sites.items()}
            batches.append({name: table.mean(0).cpu() for name, table in found.items() if table is not None})
    if not batches[0]:
        kinds = ", ".join(f"{name} a {type(scalar_family(site['fn'])).__name__}" for name, site in sites.items())
        raise ConfigError(f"no site of this guide has classes: {kinds}. Use hv.posteriors for Gaussian ones.")
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def class_probabilities(fn: Any) -> Tensor | None:
    """The probabilities of the values of a site, (draws, B, *event, K); None where it has no classes."""
    family = scalar_family(fn)
    if isinstance(family, torch.distributions.Categorical | torch.distributions.OneHotCategorical):
        probs = family.probs
    elif isinstance(family, torch.distributions.Bernoulli):
        probs = torch.stack([1 - family.probs, family.probs], -1)
    else:
        return None
    one_hot = isinstance(family, torch.distributions.OneHotCategorical)  # its event has the classes already
    event = fn.event_shape if one_hot else (*fn.event_shape, probs.shape[-1])
    return probs.expand(*fn.batch_shape, *event)


def _require_gaussian(name: str, site: Any) -> tuple[Tensor, Tensor]:
    """Means and standard deviations."""
    base = scalar_family(site["fn"])
    if isinstance(base, torch.distributions.Normal):
        return base.loc, base.scale
    remedy = "Use posterior=diagonal or posterior=isotropic, or a guide of hv.Gaussian."
    if class_probabilities(site["fn"]) is not None:
        remedy = "hv.class_posteriors gives its probabilities."
    raise ConfigError(
        f"metrics of the aggregate posterior need Gaussian posteriors of independent dimensions, but q({name} | ...) of this "
        f"guide is a {type(base).__name__}. {remedy}"
    )


@takes_data
@torch.no_grad()
@in_evaluation_mode
def direct_data_dependence(guide: Callable[..., Any], x: Tensor | Batch | Rows) -> dict[str, bool]:
    """Site -> True where its distribution depends on the datum for fixed values of the sites before it; tested with 16 data.

    The datum is x with what stands beside it: given inputs and the mask. In a Markov chain of inference of x alone only the
    first site does, so no later layer knows more of x than the first; one that reads y, too, can know more of the pair.
    """
    some = x[torch.linspace(0, len(x) - 1, min(PROBED, len(x))).long()]  # spread out: data may be sorted by class
    with fixed_seed(0), pyro.validation_enabled(False):
        with Record() as first:
            run_program(guide, some[:1])
        fixed = {name: site["value"].expand(len(some), *site["value"].shape[1:]) for name, site in first.sites.items()}
        with Record(fixed) as record:
            run_program(guide, some)
    depends = {}
    for name, site in record.sites.items():
        parameters = _require_gaussian(name, site)
        # Rows of one matrix product can differ in their last digits.
        depends[name] = not all(torch.allclose(p, p[:1].expand_as(p), rtol=1e-4, atol=1e-6) for p in parameters)
    return depends
