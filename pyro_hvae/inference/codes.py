"""Codes of data as arrays: means, deviations and draws of q(z_l | x) of every layer, and the way back to x."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from pyro_hvae.data import Batch, Rows, given_of, to_tensor, unfold_columns
from pyro_hvae.errors import ConfigError, ContractError, DataError, require_known
from pyro_hvae.inference.draw_memory import require_memory
from pyro_hvae.inference.layer_posteriors import PROBED, class_probabilities, find_dependent, sites_of_draws
from pyro_hvae.inference.sampling import ROWS, ancestral, expand_given, first_row, generate, guide_sites
from pyro_hvae.objectives import Means, inputs_for, takes_data
from pyro_hvae.runtime import fixed_seed, in_evaluation_mode

Program = Callable[..., Any]
Arrays = Mapping[str, np.ndarray]
DRAWS = 16  # of the sites before a site, for the deviations of q(z_l | x) = E q(z_l | z_(l-1))


@dataclass(frozen=True, eq=False, repr=False)
class Codes:
    """Codes of N data, layer by layer in the guide's order. They are indexed along the data: `codes[:10]`, `codes[mask]`.

    Attributes:
        means: layer -> posterior means (N, *event), those of `latents(guide, x, mean=True)`: a layer above the first of a chain
            has its mean given the means of those before it. A Categorical has its mode.
        deviations: layer -> standard deviations of q(z_l | x), (N, *event), of layers without classes.
        probabilities: layer -> those of its classes, (N, *event, K), as `class_posteriors` has them, of layers with classes.
        draws: layer -> joint draws of all layers, (N, M, *event); empty where none were asked for.
        given: what stood beside x, name -> (N, ...), with which `decode` decodes.

    Raises:
        ConfigError: for no layer, or arrays of different numbers of data.

    >>> codes = Codes({"z1": np.zeros((5, 2))})
    >>> codes, len(codes[1:3])
    (Codes of 5 data: z1 (2,), 2)
    """

    means: Arrays
    deviations: Arrays = field(default_factory=dict)
    probabilities: Arrays = field(default_factory=dict)
    draws: Arrays = field(default_factory=dict)
    given: Arrays = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.means:
            raise ConfigError("codes have means of at least one layer, but there are none. Example: Codes({'z1': means}).")
        for kind in _KINDS:
            for name, values in getattr(self, kind).items():
                if len(values) != len(self):
                    raise ConfigError(
                        f"{kind}['{name}'] holds {len(values)} data, but the means are of {len(self)}. Give arrays of the same "
                        "data."
                    )

    def __len__(self) -> int:
        return len(next(iter(self.means.values())))

    def __getitem__(self, index: Any) -> "Codes":
        """Some data: a slice, positions or booleans; a single position keeps its axis, as codes of one datum."""
        places = np.arange(len(self))[index].reshape(-1)
        return Codes(*({name: values[places] for name, values in getattr(self, kind).items()} for kind in _KINDS))

    def __repr__(self) -> str:
        text = ", ".join(f"{name} {values.shape[1:]}" for name, values in self.means.items())
        if self.draws:
            text += f"; {next(iter(self.draws.values())).shape[1]} draws"
        return f"Codes of {len(self):,} data: {text}" + (f"; given {', '.join(self.given)}" if self.given else "")

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it by one name each, as files have it: z1, z1_sd, z1_probabilities and z1_draws."""
        ends = {"deviations": "_sd", "probabilities": "_probabilities", "draws": "_draws"}
        found = dict(self.means)
        for kind, end in ends.items():
            found |= {f"{name}{end}": values for name, values in getattr(self, kind).items()}
        return found

    def columns(self) -> dict[str, np.ndarray]:
        """A column (N,) for each number, z1_0, z1_1, ..., z1_sd_0, ...: `pandas.DataFrame(codes.columns())`."""
        return unfold_columns(self.arrays())


_KINDS = ("means", "deviations", "probabilities", "draws", "given")


@takes_data
@torch.no_grad()
@in_evaluation_mode
def encode(
    guide: Program,
    x: Tensor | Batch | Rows,
    *,
    layers: Collection[str] | None = None,
    draws: int = 0,
    seed: int = 0,
    progress: bool = False,
) -> Codes:
    r"""Codes of data as NumPy arrays: posterior means and standard deviations of every layer, and draws on request.

    The deviation of a layer is that of its marginal posterior $q(z_l \mid x)$. Where it depends on x alone that is the one of
    the guide. That of a layer above the first of a chain, or after a layer of classes, is the root of
    $E[\sigma_l^2(z_{<l})] + \mathrm{Var}[\mu_l(z_{<l})]$ over draws of the layers before it, 16 or `draws` if these are more. A
    flow has no closed form, and the standard deviation of its draws is taken. Data are read and encoded in batches.

    Arguments:
        x: data (N, *event) of any type: an array, a tensor, a `Batch` or `Rows`; `given=` and `observed=` as in every question.
        layers: names of the layers to return, z1, z2, ...; None for all.
        draws: M, joint draws of q(z_1, ..., z_L | x).
        seed: of all draws. progress: show a bar.

    Raises:
        ConfigError: for an unknown layer, a negative number of draws, or draws of more than 1 GiB.
        ContractError: for a guide without latents, or one that samples x.

    >>> import pyro_hvae as hv
    >>> model, guide = hv.Chain(hv.StandardNormal(2), [], hv.Gaussian(2, 4)), hv.BottomUp([hv.Gaussian(4, 2)])
    >>> codes = encode(guide, np.zeros((3, 4)), draws=5)
    >>> codes, codes.deviations["z1"].shape, decode(model, codes).shape
    (Codes of 3 data: z1 (2,); 5 draws, (3, 2), (3, 4))
    """
    if draws < 0:
        raise ConfigError(f"draws={draws}: the number of draws for each datum is at least 0, which gives means alone.")
    layers = [layers] if isinstance(layers, str) else layers
    if layers is not None and not layers:
        raise ConfigError("layers=[] names no layer. Name some, such as layers=['z1'], or leave it out for all.")
    batches = list[dict[str, dict[str, Tensor]]]()
    bar = tqdm(total=len(x), unit="datum", desc="encoding", disable=None if progress else True)
    with fixed_seed(seed), bar:
        _require_latents(found := find_dependent(guide, x[:PROBED], lambda site: _law(site["fn"])))
        for name in layers or ():
            require_known("layer", name, found)
        chosen = [name for name in found if layers is None or name in layers]
        if draws:
            sites = guide_sites(guide, x[:1])
            require_memory(sum(sites[name]["fn"].event_shape.numel() for name in chosen), len(x), draws)
        dependent = [name for name in chosen if found[name]]
        for batch in x.split(ROWS):
            batches.append(_encode_batch(guide, batch, layers, dependent, draws))
            bar.update(len(batch))
    return Codes(*({name: _join(batches, kind, name) for name in batches[0][kind]} for kind in _KINDS))


def _require_latents(sites: Collection[str]) -> None:
    """Raises `ContractError` for a guide without latents, or with x."""
    if "x" in sites:
        raise ContractError(
            f"the guide samples {', '.join(sites)}, but x is the data, and codes are values of latents given x. Let the guide "
            "sample latents alone: x belongs to the model."
        )
    if not sites:
        raise ContractError("the guide samples nothing, so there are no codes. Let it sample the latents of the model: z1, ...")


def _join(batches: list[dict[str, dict[str, Tensor]]], kind: str, name: str) -> np.ndarray:
    return torch.cat([batch[kind][name].cpu() for batch in batches]).numpy()


def _encode_batch(
    guide: Program, x: Tensor | Batch, layers: Collection[str] | None, dependent: Collection[str], draws: int
) -> dict[str, dict[str, Tensor]]:
    """Kind of array, as `Codes` has it -> layer -> values of one batch."""
    found: dict[str, dict[str, Tensor]] = {kind: {} for kind in _KINDS}
    found["given"] = given_of(x)
    for name, site in guide_sites(guide, x, mean=True).items():
        if layers is None or name in layers:
            found["means"][name] = site["value"]
            if name not in dependent and (law := _law(site["fn"])):
                _put_law(found, name, law)
    count = max(draws, DRAWS if dependent else 0)
    pieces = [_draw(guide, piece, count, dependent) for piece in (x.split(max(1, ROWS // count)) if count else ())]
    for name in found["means"] if count else ():
        if name in dependent:
            _put_law(found, name, tuple(map(torch.cat, zip(*(laws[name] for laws, _ in pieces), strict=True))))
        if draws:
            found["draws"][name] = torch.cat([values[name][:, :draws] for _, values in pieces])
    return found


def _put_law(found: dict[str, dict[str, Tensor]], name: str, law: tuple[Tensor, ...]) -> None:
    found["probabilities" if len(law) == 1 else "deviations"][name] = law[-1]


def _draw(
    guide: Program, x: Tensor | Batch, count: int, dependent: Collection[str]
) -> tuple[dict[str, tuple[Tensor, ...]], dict[str, Tensor]]:
    """Layer -> law of q(z_l | x) over draws of the others, and layer -> these draws, (B, count, *event)."""
    sites = sites_of_draws(guide, x, count)
    laws = dict[str, tuple[Tensor, ...]]()
    for name in dependent:
        law, value = _law(sites[name]["fn"]), sites[name]["value"]
        if law is None:  # no closed form
            laws[name] = value.mean(0), value.std(0)
        elif len(law) == 1:
            laws[name] = (law[0].mean(0),)
        else:
            laws[name] = law[0].mean(0), (law[1].square().mean(0) + law[0].var(0)).sqrt()
    return laws, {name: site["value"].transpose(0, 1) for name, site in sites.items()}


def _law(fn: Any) -> tuple[Tensor, ...] | None:
    """Probabilities of classes, (*plates, *event, K), else mean and standard deviation; None where there is no closed form."""
    if (table := class_probabilities(fn)) is not None:
        return (table,)
    try:
        return tuple(values.expand(fn.batch_shape + fn.event_shape) for values in (fn.mean, fn.stddev))
    except NotImplementedError:
        return None


@torch.no_grad()
@in_evaluation_mode
def decode(
    model: Program,
    codes: "Codes | Mapping[str, Any]",
    *,
    given: Mapping[str, Any] | None = None,
    draw: bool = False,
    seed: int = 0,
    progress: bool = False,
) -> np.ndarray:
    r"""E[x | z] of codes, (N, *event), a NumPy array: `decode(model, encode(guide, x))` equals `reconstruct(model, guide, x)`.

    Layers that the codes lack, such as all below the top ones of `encode(guide, x, layers=["z3"])`, take the mean of
    $p(z_l \mid z_{l+1}, \ldots)$ given the layers above them, or a draw of it. Those without parents take that of their prior.
    Of a top-down model that shows what the top layers know. (The mean of the prior of a ladder is no typical code: draw there.)

    Arguments:
        codes: `Codes`, whose means are decoded, or layer -> values (N, *event), such as
            `{"z1": codes.draws["z1"][:, 0]}`.
        given: inputs to decode under, name -> (N, ...) or one row for all; default: those beside the data that were encoded.
        draw: draw layers that the codes lack. seed: of these draws. progress: show a bar.

    Raises:
        ConfigError: for an unknown layer, another shape, or layers of different numbers of data.
        DataError: for values that are not finite.
    """
    beside: Mapping[str, Any] = codes.given if isinstance(codes, Codes) else {}
    found: Mapping[str, Any] = codes.means if isinstance(codes, Codes) else codes
    values = {name: to_tensor(value, name) for name, value in found.items()}
    if not values or any(not value.dim() or not len(value) for value in values.values()):
        raise ConfigError("there are no codes to decode. Give values (N, *event) of a layer or more, such as {'z1': values}.")
    size = len(next(iter(values.values())))
    with fixed_seed(seed):
        under = expand_given({**inputs_for(model, beside), **(given or {})}, size, model)
        sites = ancestral(model, 1, given=first_row(under))
        values = {name: _check(name, value, sites, size) for name, value in values.items()}
        # What is not given is a mean, unless it is drawn; a pair whose layers are all there runs as in `reconstruct`.
        filled = nullcontext() if draw or set(values) >= set(sites) - {"x"} else Means()
        batches = list[Tensor]()
        with filled, tqdm(total=size, unit="datum", desc="decoding", disable=None if progress else True) as bar:
            for rows in _slices(size):
                fixed, inputs = ({name: v[rows] for name, v in held.items()} for held in (values, under))
                batches.append(generate(model, rows.stop - rows.start, fixed, given=inputs)["x"].cpu())
                bar.update(len(batches[-1]))
    return torch.cat(batches).numpy()


def _slices(size: int) -> Iterator[slice]:
    return (slice(start, min(size, start + ROWS)) for start in range(0, size, ROWS))


def _check(name: str, value: Tensor, sites: Mapping[str, Any], size: int) -> Tensor:
    """Values of a layer as the model computes in."""
    require_known("layer", name, [site for site in sites if site != "x"])
    drawn, event = sites[name]["value"], sites[name]["fn"].event_shape
    if value.shape[1:] != event:
        raise ConfigError(f"the codes of '{name}' have the shape {tuple(value.shape)}, but its values have {tuple(event)}.")
    if len(value) != size:
        raise ConfigError(f"the codes of '{name}' are of {len(value)} data, those of another layer of {size}. Give as many.")
    value = value.to(drawn.device, drawn.dtype)
    if wrong := int((~value.isfinite()).reshape(size, -1).any(1).sum()):
        limit = f"beyond {torch.finfo(drawn.dtype).max:.4g}, the largest number that the model computes with"
        raise DataError(f"the codes of '{name}' are NaN, infinite or {limit}, for {wrong} of {size} data. Leave these out.")
    return value
