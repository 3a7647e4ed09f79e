"""Samples a second of whole training loops: ours with its own batches against pythae's trainer.

Both have the same networks, likelihoods, batch sizes and data in memory, and train one epoch in turn. pythae's callbacks (its
progress bar) are left out, in its favour. Nothing else depends on pythae: pip install pythae.
"""

import logging
import tempfile
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from benchmarks import hand_written_networks
from benchmarks.timing import Measure, Side, device, interleaved, ratio_of
from benchmarks.training_steps import NETS, Net, build_pair
from pyro_hvae import Constant, TrainConfig
from pyro_hvae.runtime.random_state import fixed_seed
from pyro_hvae.training.session import Session

BARS = {"mnist 784-300-300-40, B 128": 1.4, "conv 28 x 28, B 64": 1.1}
UNIT = "samples/s / of pythae's trainer"


def measures(quick: bool) -> list[Measure]:
    if find_spec("pythae") is None:
        why = {"skipped": "pythae is not installed: pip install pythae"}
        return [Measure(f"trainer, {name}", None, UNIT, bar, most=False, detail=why) for name, bar in BARS.items()]
    return [compare_epochs(name, NETS[name], bar, 4 if quick else 9, 8 if quick else 32) for name, bar in BARS.items()]


def compare_epochs(name: str, net: Net, bar: float, rounds: int, batches: int) -> Measure:
    pair, _ = build_pair(net)
    x = (torch.rand(net.batch * batches, 1, net.side, net.side) < 0.2).float()
    peer = hand_written_networks.VAE(pair)
    config = TrainConfig(batch_size=net.batch, compile=True)
    ours = Session(pair, x.to(device()), config, Constant().to(device()), 1_000_000)

    def epoch() -> None:
        for _ in range(batches):
            ours.step()

    with tempfile.TemporaryDirectory() as folder, fixed_seed(0):
        sides: dict[str, Side] = {"ours": epoch, "pythae": pythae_epoch(peer, x, net.batch, folder)}
        times = interleaved(sides, rounds, turn=0.0, warm=1)
    ratio, detail = ratio_of(times, "pythae", "ours")
    rates = {side: 1e3 * len(x) / ms for side, ms in detail.pop("ms").items()}
    return Measure(f"trainer, {name}", ratio, UNIT, bar, most=False, detail={"samples_per_second": rates, **detail})


def pythae_epoch(peer: hand_written_networks.VAE, x: Tensor, batch: int, folder: str) -> Side:
    """An epoch of pythae's own loop over the hand-written networks."""
    data, models, trainers = (import_module(f"pythae.{name}") for name in ("data.datasets", "models", "trainers"))
    bases, outputs = import_module("pythae.models.nn"), import_module("pythae.models.base.base_utils")

    def encode(self: Any, x: Tensor) -> Any:
        mean, log_covariance = peer.encoder(x.flatten(1)).chunk(2, -1)
        return outputs.ModelOutput(embedding=mean, log_covariance=log_covariance)

    def decode(self: Any, z: Tensor) -> Any:
        return outputs.ModelOutput(reconstruction=peer.decoder(z).sigmoid().reshape(len(z), *x.shape[1:]))

    encoder = type("Encoder", (bases.BaseEncoder,), {"forward": encode})()
    decoder = type("Decoder", (bases.BaseDecoder,), {"forward": decode})()
    encoder.net, decoder.net = peer.encoder, peer.decoder  # the parameters that the trainer steps
    logging.getLogger("pythae.trainers.base_trainer.base_trainer").setLevel(logging.ERROR)
    settings = models.VAEConfig(input_dim=tuple(x.shape[1:]), latent_dim=40, reconstruction_loss="bce")
    model = models.VAE(settings, encoder=encoder, decoder=decoder)
    training = trainers.BaseTrainerConfig(
        output_dir=folder, num_epochs=1, learning_rate=1e-3, per_device_train_batch_size=batch, no_cuda=device().type == "cpu"
    )
    trainer = trainers.BaseTrainer(model, data.BaseDataset(x, torch.zeros(len(x))), training_config=training)
    trainer.prepare_training()
    trainer.callback_handler = import_module("pythae.trainers.training_callbacks").CallbackHandler([], model)
    return lambda: trainer.train_step(1)
