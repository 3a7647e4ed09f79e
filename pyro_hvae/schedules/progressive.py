"""Progressive learning of pro-VLAE: layers enter the training one after the other, from the top down."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pyro_hvae.errors import ConfigError
from pyro_hvae.schedules.schedule import GateAlphas, Schedule


class Progressive(Schedule):
    r"""Progressive learning of a gated pair's L layers in L equal steps s = 0, ..., L - 1, of which each adds one layer.

    During step s the loss is
    $-E \log p(x \mid z_L, \ldots, z_{L-s}) + \beta \sum_{l \ge L-s} KL_l + \gamma \sum_{l < L-s} KL_l$ (pro-VLAE, eqs. 8,
    10 and 11); logged, clipped and watched for divergence is its quotient by max(1, beta), as under every schedule. The layer
    that entered last fades in: $\alpha = \min(1, i / \mathrm{fade})$ at iteration i = 0, 1, ... *of its
    step* multiplies the input of its head and the output of its branch (eq. 9). In the first step nothing fades in.

    A layer that waits has its branch's gate closed and its head's open: with that gate closed too, gamma's term would reach
    only the head's biases. When the layer enters, both gates start at zero and rise together (eq. 9).

    Arguments:
        beta: weight of the KLs of the layers that have entered. gamma: weight of the others.
        fade: iterations; a number below one is a fraction of a step. The paper has 5000, of 15 epochs a step.

    Raises:
        ConfigError: for values out of range; in `start`, for no gates, fewer iterations than layers, or too long a fade-in.

    >>> schedule = Progressive(fade=0.5)
    >>> schedule.start(40, ["z2", "z1"])
    >>> for _ in range(25):
    ...     schedule.update()
    >>> schedule.gate_alphas().model
    {'z2': 1.0, 'z1': 0.5}
    """

    length: Tensor
    fading: Tensor
    # t, length and fading as plain numbers, read again after loading, so that no step has to wait for a device.
    _numbers: tuple[int, int, float] | None = None

    def __init__(self, beta: float = 1.0, gamma: float = 0.5, fade: float = 0.25) -> None:
        super().__init__(beta)
        if not (gamma >= 0 and fade >= 0):
            raise ConfigError(f"gamma and fade must not be negative, got gamma={gamma!r}, fade={fade!r}.")
        self.gamma, self.fade, self.layers = gamma, fade, list[str]()
        self.gradient_scale = max(1.0, float(beta))  # in eq. 11 x weighs one
        self.register_buffer("length", torch.tensor(1))
        self.register_buffer("fading", torch.tensor(0.0, dtype=torch.float64))

    def start(self, steps: int, layers: Sequence[str] = ()) -> None:
        super().start(steps, layers)
        if not layers:
            raise ConfigError(
                "a progressive schedule opens the gates of a pair layer by layer, and this pair has none. Use a recipe with a "
                "ladder (vlae, pro-vlae), or another schedule."
            )
        if steps < len(layers):
            raise ConfigError(
                f"{steps} steps are fewer than the {len(layers)} layers that are to enter one after the other. "
                f"Use --steps {len(layers)} or, to learn something, thousands."
            )
        step = steps // len(layers)
        fading = self.fade if self.fade >= 1 else self.fade * step
        if fading > step:
            raise ConfigError(
                f"fade={self.fade:g} iterations are more than the {step} of a step ({steps} iterations, {len(layers)} layers). "
                "Use a fraction (-o fade=0.25), or train longer."
            )
        self.layers = list(layers)
        self.length.fill_(steps)
        self.fading.fill_(fading)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        self._numbers = None
        return super().load_state_dict(*args, **kwargs)

    def update(self, constraint: Tensor | None = None) -> None:
        t, length, fading = self._plan()
        self._numbers = t + 1, length, fading
        super().update(constraint)

    def _plan(self) -> tuple[int, int, float]:
        """Number of the next pass (from 0), length of the run, and iterations of a fade-in."""
        if self._numbers is None:
            self._numbers = int(self.t), int(self.length), float(self.fading)
        return self._numbers

    def _position(self, passes: int = 0) -> tuple[int, float]:
        """The progressive step s and its layer's alpha, in the next pass or so many passes before."""
        (t, length, fading), count = self._plan(), max(1, len(self.layers))
        iteration = max(0, t - passes)
        s = min(count - 1, iteration * count // length)
        first = -(-s * length // count)  # the first iteration of step s
        return s, min(1.0, (iteration - first) / fading) if s and fading else 1.0

    @property
    def pass_kinds(self) -> int:
        """The first step has one kind of pass; every other step has two, during and after the fade-in."""
        return max(1, 2 * len(self.layers) - 1)

    @property
    def unique_pass(self) -> bool:
        """Whether a layer enters in the next pass: in model and guide its gates are closed then, and never again."""
        return self._position()[1] == 0.0

    def weights(self) -> dict[str, Tensor]:
        """Site -> beta or gamma in the last pass."""
        s, _ = self._position(1)
        gamma = torch.full_like(self.beta, self.gamma)
        return {site: self.beta if rank <= s else gamma for rank, site in enumerate(self.layers)}

    def gate_alphas(self) -> GateAlphas:
        s, alpha = self._position()
        model = {site: 1.0 if rank < s else alpha if rank == s else 0.0 for rank, site in enumerate(self.layers)}
        return GateAlphas(model, {site: alpha if rank == s else 1.0 for rank, site in enumerate(self.layers)})

    @property
    def final(self) -> bool:
        return self._position(1)[0] == len(self.layers) - 1

    @property
    def settled(self) -> bool:
        return self.final and self._position(1)[1] == 1.0

    def log(self) -> dict[str, Tensor]:
        """beta, how many `layers` have entered, and `alpha` of the last of them."""
        s, alpha = self._position(1)
        return {"beta": self.beta, "layers": torch.tensor(s + 1), "alpha": torch.tensor(alpha, dtype=torch.float64)}
