"""Samples a second of whole training loops: ours with its own batches, and pythae's trainer.

The same networks, likelihoods, batch sizes and data in memory, one epoch of each in turn. pythae's callbacks (its progress bar)
are left out, in its favour. It is no dependency of anything else: pip install pythae.
"""

import logging
import tempfile
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import peers
from benchmarks.measures import Measure, Side, against, device, interleaved, skipped
from benchmarks.steps import NETS, Net, pair_of
from pyro_hvae.runs.train_config import TrainConfig
from pyro_hvae.runtime.random_state import fixed_seed
from pyro_hvae.schedules import Constant
from pyro_hvae.training.session import Session

__all__ = ["measures"]

BARS = {"mnist 784-300-300-40, B 128": 1.4, "conv 28 x 28, B 64": 1.1}
UNIT = "samples/s / of pythae's trainer"


def measures(quick: bool) -> list[Measure]:
    if find_spec("pythae") is None:
        why = "pythae is not installed: pip install pythae"
        return [skipped(f"trainer, {name}", UNIT, why, bar, most=False) for name, bar in BARS.items()]
    return [_measure(name, NETS[name], bar, 4 if quick else 9, 8 if quick else 32) for name, bar in BARS.items()]


def _measure(name: str, net: Net, bar: float, rounds: int, batches: int) -> Measure:
    pair, _ = pair_of(net)
    x = (torch.rand(net.batch * batches, 1, net.side, net.side) < 0.2).float()
    peer = peers.VAE(pair)
    config = TrainConfig(batch_size=net.batch, compile=True)
    ours = Session(pair, x.to(device()), config, Constant().to(device()), 1_000_000)

    def epoch() -> None:
        for _ in range(batches):
            ours.step()

    with tempfile.TemporaryDirectory() as folder, fixed_seed(0):
        sides: dict[str, Side] = {"ours": epoch, "pythae": pythae(peer, x, net.batch, folder)}
        taken = interleaved(sides, rounds, turn=0.0, warm=1)
    ratio, detail = against(taken, "pythae", "ours")
    rates = {side: 1e3 * len(x) / ms for side, ms in detail.pop("ms").items()}
    return Measure(f"trainer, {name}", ratio, UNIT, bar, most=False, detail={"samples_per_second": rates, **detail})


def pythae(peer: peers.VAE, x: Tensor, batch: int, folder: str) -> Side:
    """An epoch of pythae's own loop over the peer's networks."""
    data, models, trainers = (import_module(f"pythae.{name}") for name in ("data.datasets", "models", "trainers"))
    bases, outputs = import_module("pythae.models.nn"), import_module("pythae.models.base.base_utils")

    class Encoder(bases.BaseEncoder):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Any:
            mean, log_covariance = self.net(x.flatten(1)).chunk(2, -1)
            return outputs.ModelOutput(embedding=mean, log_covariance=log_covariance)

    class Decoder(bases.BaseDecoder):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, z: Tensor) -> Any:
            return outputs.ModelOutput(reconstruction=self.net(z).sigmoid().reshape(len(z), *x.shape[1:]))

    logging.getLogger("pythae.trainers.base_trainer.base_trainer").setLevel(logging.ERROR)
    settings = models.VAEConfig(input_dim=tuple(x.shape[1:]), latent_dim=40, reconstruction_loss="bce")
    model = models.VAE(settings, encoder=Encoder(peer.encoder), decoder=Decoder(peer.decoder))
    training = trainers.BaseTrainerConfig(
        output_dir=folder, num_epochs=1, learning_rate=1e-3, per_device_train_batch_size=batch, no_cuda=device().type == "cpu"
    )
    trainer = trainers.BaseTrainer(model, data.BaseDataset(x, torch.zeros(len(x))), training_config=training)
    trainer.prepare_training()
    trainer.callback_handler = import_module("pythae.trainers.training_callbacks").CallbackHandler([], model)
    return lambda: trainer.train_step(1)
