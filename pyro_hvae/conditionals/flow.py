"""Normalizing flows of zuko as conditionals."""

import math
from collections.abc import Sequence
from typing import Any, Unpack

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn
from torch.distributions import Distribution, constraints
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from pyro_hvae.errors import ConfigError, missing_extra
from pyro_hvae.networks import NetworkOptions, ParentNetwork, Parents, event_shape

# Inverses by bisection are clamped to 10 without a word. A draw x of the base value z is as good as f(x) is near z.
TOLERANCE = 1e-3
FAR = (6.0, 12.0, 50.0)
START_GAIN = 0.1  # factor on the last layers of a flow that starts near the identity


def zuko_flows() -> Any:
    """The module `zuko.flows`. Importing zuko turns the validation of all distributions off; here it stays as it was.

    Raises:
        DeviceError: where the extra `flows` is not installed.

    >>> zuko_flows().NSF(2, transforms=1)().event_shape
    torch.Size([2])
    """
    validate = Distribution._validate_args
    try:
        import zuko
    except ImportError as error:
        raise missing_extra("flows", "a normalizing flow") from error
    finally:
        Distribution.set_default_validate_args(validate)
    return zuko.flows


@torch.no_grad()
def start_near_identity(flow: Any) -> None:
    """Makes the last layers of zuko's `MAF` or `NSF` small, so that a fresh flow is near its base.

    With one dimension and no context there are numbers in the place of a network, which zuko draws from N(0, 1).
    """
    for layer in flow.transform.transforms:
        for parameter in (layer.hyper[-1] if hasattr(layer, "hyper") else layer).parameters():
            parameter *= START_GAIN


class FlowDistribution(TorchDistribution):
    r"""A distribution of zuko as Pyro takes it: of a flow, $\log p(x) = \log p_0(f(x)) + \log |\det \partial f / \partial x|$.

    A value with infinite entries has the log-density -inf, as with a Gaussian, and one with NaN has NaN. There is no mean;
    `centre` is the image of the base's.

    Arguments:
        law: zuko's distribution of events (D,). checked: every draw is tested, for a flow that is inverted by bisection.

    Raises:
        ConfigError: for a draw that the inverse has not found. In a captured graph the draw is NaN instead.
    """

    arg_constraints = {}  # pyright: ignore[reportAssignmentType]
    support = constraints.real_vector  # pyright: ignore[reportAssignmentType]

    def __init__(self, law: Any, checked: bool = False, validate_args: bool | None = None) -> None:
        self.law, self.checked, self.has_rsample = law, checked, law.has_rsample
        super().__init__(law.batch_shape, law.event_shape, validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "FlowDistribution":
        return FlowDistribution(self.law.expand(torch.Size(batch_shape)), self.checked, validate_args=self._validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        finite = value.isfinite()
        values = self.law.log_prob(value.where(finite, 0.0))
        return values.where(finite.all(-1), -value.abs().sum(-1))

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        if not self.checked:
            return self.law.rsample(torch.Size(sample_shape))
        return self._image(self.law.base.rsample(torch.Size(sample_shape)))

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        with torch.no_grad():
            return self.rsample(sample_shape) if self.has_rsample else self.law.sample(torch.Size(sample_shape))

    @property
    def centre(self) -> Tensor | None:
        """The image of the base's mean, (*plates, D); None where there is no base, as in a mixture."""
        base = getattr(self.law, "base", None)
        return self._image(base.mean) if base is not None and hasattr(self.law, "transform") else None

    def _image(self, z: Tensor) -> Tensor:
        value = self.law.transform.inv(z)
        if not self.checked:
            return value
        wrong = _is_off(self.law, value, z)
        if get_proxy_mode() is not None:
            return value.masked_fill(wrong, math.nan)
        if wrong.any():
            raise ConfigError(
                "a flow cannot draw this value: zuko inverts it by bisection within +-10, and the value lies beyond. Use a "
                "flow with an exact inverse, zuko.flows.NSF or MAF, or keep the values of this site small."
            )
        return value


@torch.no_grad()
def _is_off(law: Any, value: Tensor, z: Tensor) -> Tensor:
    """Whether f(value) is not z, in the shape of both without the event, which stays as a 1."""
    return ((law.transform(value.detach()) - z).abs() > TOLERANCE * (1 + z.abs())).any(-1, keepdim=True)


class Flow(nn.Module):
    r"""A lazy distribution of zuko (extra `flows`) as a conditional: a prior, or with parents a guide or a level of a model.

    $z \sim p_0, x = f^{-1}(z; c)$ with the context c, a network of the parents. The KL to and from a flow is a Monte Carlo
    estimate.

    Arguments:
        flow: what zuko makes, such as `zuko.flows.NSF(2)`, `RealNVP`, `MAF` or `GMM`, with `context=` where there are parents.
        parents: features of the parents, as for `Gaussian`; None for a prior.
        context: numbers of the context that the network gives; None (default) takes the joined parents themselves.
        hidden, activation, gain, norm, input_bound, input_mean, output_mean, net: of the network, as for `Gaussian`.

    The inverses of NAF, UNAF, GF and SOSPF are wrong beyond +-10. The constructor finds such flows by a round trip of values at
    6, 12 and 50, and each of their draws is then tested; other flows have no such cost. Captured passes hold the coupling
    layers of `MAF(..., passes=2)` and `NSF(..., passes=2)`; zuko's `RealNVP` and `NICE` make them run eagerly.

    Raises:
        ConfigError: for what is no flow, a flow of another context, or one that has no density on all real numbers
            (`NCSF`, of angles).

    >>> flows = zuko_flows()
    >>> Flow(flows.NSF(2))().log_prob(torch.zeros(5, 2)).shape
    torch.Size([5])
    >>> q = Flow(flows.RealNVP(2, context=8), parents=(1, 16, 16), context=8)
    >>> q(torch.zeros(7, 5, 1, 16, 16)).sample().shape
    torch.Size([7, 5, 2])
    """

    def __init__(
        self,
        flow: nn.Module,
        parents: Parents | None = None,
        context: int | None = None,
        hidden: Sequence[int] = (128, 128),
        **network: Unpack[NetworkOptions],
    ) -> None:
        super().__init__()
        if not isinstance(flow, nn.Module):
            raise ConfigError(f"a Flow wraps what zuko makes, such as zuko.flows.NSF(2), got {flow!r}.")
        if parents is None:
            if context is not None or network:
                raise ConfigError("a Flow without parents has no context and no network. Give it parents, or only the flow.")
            self.network = None
        elif context is None:
            width = sum(math.prod(event_shape(p)) for p in (parents if isinstance(parents, list) else [parents]))
            self.network = ParentNetwork(parents, width, (), net=nn.Identity())
        else:
            self.network = ParentNetwork(parents, context, hidden, **network)
        self.flow = flow
        law = self._probe()
        self.event, self.checked = tuple(law.event_shape), self._needs_checks(law)

    def forward(self, *parents: Tensor) -> FlowDistribution:
        law = self.flow() if self.network is None else self.flow(self.network.location(parents)[0])
        return FlowDistribution(law, self.checked)

    @torch.no_grad()
    def _probe(self) -> Any:
        """zuko's distribution at a context of zeros, after a density that shows whether it is one of this context."""
        some = next((t for t in (*self.flow.parameters(), *self.flow.buffers()) if t.is_floating_point()), torch.zeros(()))
        width = None if self.network is None else self.network.features
        try:
            law: Any = self.flow() if width is None else self.flow(some.new_zeros(1, width))
            law.log_prob(some.new_zeros(1, *law.event_shape))
        except Exception as error:
            what = "none, for this Flow has no parents" if width is None else f"context={width}"
            raise ConfigError(f"the flow is of another context than {what}. Give it that of the Flow: {error}") from error
        if len(law.event_shape) != 1:
            raise ConfigError(f"a Flow is of events (D,), but this one gives {tuple(law.event_shape)}.")
        return law

    @torch.no_grad()
    def _needs_checks(self, law: Any) -> bool:
        """Whether some values far away do not come back from their base values."""
        if not hasattr(law, "transform"):
            return False
        values = law.base.mean.new_tensor([[sign * v] for v in FAR for sign in (1, -1)]).repeat(1, *law.event_shape)
        z = law.transform(values)
        back = law.transform.inv(z)
        if (back - values)[:2].abs().max() > 1:
            raise ConfigError(
                f"this flow gives {FAR[0]:g} and another value the same base value, so its density is none of all real "
                "numbers. Use zuko.flows.NSF or MAF."
            )
        return bool(_is_off(law, back, z).any())
