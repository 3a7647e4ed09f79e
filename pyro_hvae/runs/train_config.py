"""The settings of a training run."""

import math
from dataclasses import dataclass, fields

from pyro_hvae.errors import ConfigError, require_known
from pyro_hvae.runs.options import coerce

ENGINES = ("fit", "svi")
GRADIENTS = ("reparameterised", "stl", "dreg")  # those of `ELBO`, whose room needs torch
SEEDS = 2**32  # the bits that torch uses of a seed
# The names of `training.CLASSES`, which needs torch; and of an optimiser that `fit` was handed over.
OPTIMIZERS, OWN = ("adam", "adamw", "adamax", "nadam", "radam", "rmsprop", "adagrad", "sgd"), "own"
PRECISIONS = ("float32", "bf16")  # the names of `networks.PRECISIONS`, which needs torch


@dataclass(frozen=True)
class TrainConfig:
    """Settings of `fit`.

    Attributes:
        steps: over all stages. batch_size: data per step. lr: of the optimiser.
        optimizer: of torch, by name, with its default settings; "own" where `fit` was given another one.
        lr_decay: last fraction of the steps over which a cosine takes lr down to 2 % of itself; 0 keeps it constant.
        grad_clip: largest total gradient norm; 0 clips nothing.
        seed: governs noise, data order and initial weights (of recipes, and of pairs that a file builds), by the streams of
            torch, NumPy and Python; at most 2^32 - 1.
        starts: how many initialisations are tried over the first tenth of the run; the best validation bound is trained.
        log_every, eval_every, save_every: steps between metric rows, validation bounds and checkpoints.
        patience: end the last stage after so many evaluations of the validation bound in a row without a better one, counted
            once the schedule has settled (its warm-up or initial phase is over); 0 never does.
        information_every: steps between estimates of how much every layer knows of x; 0 makes none.
        information_points: size of the random sample of training data for these estimates (see `InformationFlow`).
        device: auto, cpu, cuda, cuda:i or mps. threads: of torch on the CPU, 0 leaves torch's default.
        gradient: of the bound with respect to the guide, reparameterised, stl or dreg (see `ELBO`); None is the bound's own.
        free_bits: nats that each latent site may know of x for nothing: of a site whose rate, averaged over the batch, is below
            that, the rate has no gradient (Kingma et al. 2016, for whole layers); 0 is the bound itself.
        balance: while beta is below 1, make the rate of a layer cheap that knows little of x (KL balancing, see `balance`).
        engine: "fit" (torch optimiser, fused Adam) or "svi" (stock `pyro.infer.SVI`; slower, same result in the mean).
        compile: whether a step's loss and gradients run as one compiled graph (see `capture`); None decides by the length of
            the run and by the cache (see `decide_training`).
        precision: of the networks, float32 or bf16 (see `network_precision`).

    Raises:
        ConfigError: for a setting out of range.
    """

    steps: int = 10_000
    batch_size: int = 64
    lr: float = 1e-3
    optimizer: str = "adam"
    lr_decay: float = 0.4
    grad_clip: float = 0.0
    seed: int = 0
    starts: int = 1
    log_every: int = 50
    eval_every: int = 500
    save_every: int = 1_000
    patience: int = 0
    information_every: int = 0
    information_points: int = 5_000
    device: str = "auto"
    threads: int = 0
    gradient: str | None = None
    free_bits: float = 0.0
    balance: bool = False
    engine: str = "fit"
    compile: bool | None = None
    precision: str = "float32"

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, coerce(field.name, getattr(self, field.name), field.type))
        for name in ("steps", "batch_size", "starts", "log_every", "eval_every", "save_every", "information_points"):
            if (value := getattr(self, name)) < 1:
                raise ConfigError(f"{name.replace('_', '-')} must be at least 1, got {value}.")
        if self.seed > SEEDS - 1:
            raise ConfigError(f"seed must be at most {SEEDS - 1} (2^32 - 1), got {self.seed}: more bits would change nothing.")
        for name in ("seed", "threads", "grad_clip", "information_every", "free_bits", "patience"):
            if (value := getattr(self, name)) < 0:
                raise ConfigError(f"{name.replace('_', '-')} must not be negative, got {value}.")
        if not 0 < self.lr < math.inf:
            raise ConfigError(f"lr must be positive and finite, got {self.lr}.")
        if not 0 <= self.lr_decay <= 1:
            raise ConfigError(f"lr_decay is a fraction of the run, between 0 and 1, got {self.lr_decay}.")
        for name, known in (("engine", ENGINES), ("precision", PRECISIONS)):
            require_known(name, getattr(self, name), known)
        if self.optimizer != OWN:
            require_known("optimizer", self.optimizer, OPTIMIZERS)
        if self.gradient is not None:
            require_known("gradient", self.gradient, GRADIENTS)
        if self.engine == "svi" and (self.compile or self.precision != "float32"):
            raise ConfigError(
                "engine=svi is stock pyro.infer.SVI, which neither compiles nor changes precision. Use --engine fit."
            )
