"""Gates: factors between 0 and 1 with which a schedule lets the layers of a program enter one after the other."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pyro_hvae.errors import ConfigError


class Gate(nn.Module):
    r"""$h \mapsto \alpha h$ with $\alpha \in [0, 1]$, open ($\alpha = 1$) unless a schedule moves it (pro-VLAE, eq. 9).

    alpha is a buffer: part of a checkpoint, and never trained. `closed` (alpha = 0) and `opened` (alpha = 1) are copies of it
    in Python, so that a program can skip what a closed gate would multiply by zero without waiting for a device.

    >>> gate = Gate()
    >>> gate.set(0.25)
    >>> gate(torch.ones(2))
    tensor([0.2500, 0.2500])
    """

    alpha: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("alpha", torch.ones(()))
        self.closed, self.opened = False, True

    def set(self, alpha: float) -> None:
        """Moves the gate; raises `ConfigError` outside [0, 1]."""
        if not 0 <= alpha <= 1:
            raise ConfigError(f"a gate lies between 0 (closed) and 1 (open), got {alpha!r}.")
        self.alpha.fill_(alpha)
        self.closed, self.opened = alpha == 0, alpha == 1

    def forward(self, h: Tensor) -> Tensor:
        return h if self.opened else h * self.alpha

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.set(self.alpha.item())


def program_gates(program: Any) -> dict[str, Gate]:
    """Site -> gate of a program, in its order; empty for a program without gates.

    A program has gates when its attribute `gates` maps the names of latent sites to `Gate`s, as `Ladder`'s and `Heads`' do.
    """
    return dict(getattr(program, "gates", {}).items())


def set_gates(program: Any, alphas: Mapping[str, float]) -> None:
    """Moves all gates of a program.

    Raises:
        ConfigError: when there is not one alpha for every gate.
    """
    gates = program_gates(program)
    if set(gates) != set(alphas):
        raise ConfigError(
            f"the gates of {type(program).__name__} are those of {sorted(gates) or 'no site'}, but values were given for "
            f"{sorted(alphas) or 'none'}. Give one for each."
        )
    for site, alpha in alphas.items():
        gates[site].set(alpha)
