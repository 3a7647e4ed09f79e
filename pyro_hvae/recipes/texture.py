"""Texture VAE on patches, then a Global VAE on the map of their codes (Sahoo 2020)."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from pyro_hvae.conditionals import Gaussian, ImageLikelihood, ImagePosterior, PatchDecoder, PatchEncoder, StandardNormal
from pyro_hvae.data import Batch, Dataset, given_of, x_of
from pyro_hvae.errors import ConfigError, require_known
from pyro_hvae.guides import BottomUp
from pyro_hvae.models import Chain, EncodingModel
from pyro_hvae.networks import Patches, network_pair
from pyro_hvae.objectives import ELBO, Objective, PixelError
from pyro_hvae.recipes.building_blocks import BuildingBlocks
from pyro_hvae.recipes.recipe import Pixels, Stage
from pyro_hvae.schedules import PlateauRule

SCALE = math.sqrt(0.5)  # of both likelihoods: -log p is the sum of squares, up to a constant
JOINT = ("none", "features", "pixels")
SAMPLE = 256  # images for the mean and variance of features


def texture(
    x: Tensor | Batch,
    crops: Callable[[int], Dataset],
    *,
    latent: int = 16,
    texture_latent: int = 16,
    patch: int = 7,
    overlap: bool = True,
    join: str = "average",
    joint: str = "none",
    hidden: tuple[int, ...] = (32, 32, 64, 64, 256),
    texture_hidden: tuple[int, ...] = (128, 64),
    activation: str = "relu",
    network: str = "conv-4x4",
    prior: str = "normal",
    components: int = 10,
    texture_lr: float = 1e-3,
    texture_batch: int = 256,
    texture_share: float = 0.8,
) -> list[Stage]:
    r"""Texture VAE, frozen once its loss is flat, and a Global VAE on the map of its codes (Sahoo 2020).

    Stage `texture`: patch -> z1, trained on crops of the data set's textures, or of its images where it has no textures.
    Stage `global`: the map of posterior means of all patches -> z2, loss
    $\lVert z_1 - \tilde z_1 \rVert^2 + KL(q(z_2 \mid z_1) \Vert p(z_2))$ with p(z2) = N(0, I), or another `prior`. Both
    likelihoods are N(mean, 1/2 I). Pictures show pixels: both decoders decode z2, each code of the map becomes a patch, and
    `join` joins overlapping patches.

    The paper gives the sizes of the codes and no network. Averages over overlapping patches are our choice, too.

    Ablations of the paper: `overlap=false patch=8`, patches side by side; `joint=features`, which also trains the texture
    encoder on the loss of the global stage and degenerates; `joint=pixels`, which also trains the texture encoder and decoder,
    on that loss plus the squared error of the pixels decoded from z1.

    Conditions y are those of whole images, and enter the second stage: p(z1 | z2, y) and q(z2 | z1, y).

    Arguments:
        crops: side in pixels -> a data set of squares for stage one.
        latent, texture_latent: dimensions of z2 and of a patch's z1.
        texture_share: largest share of the steps for stage one, ended when five epochs change the mean loss by 0.1 % or less.
    """
    if len(x.shape) != 4 or x.shape[-1] != x.shape[-2]:
        raise ConfigError(
            f"the texture recipe needs square images (channels, height, width), but these data have shape {tuple(x.shape[1:])}."
            " A folder of images takes size=64; crop or pad arrays to squares before they are saved."
        )
    if isinstance(x, Batch) and x.observed is not None:
        raise ConfigError(
            "the texture recipe needs all entries of x, but some are missing: a patch's code is that of all its pixels. Use "
            "another recipe, such as vae or hvae, or fill the entries in."
        )
    require_known("joint", joint, JOINT)
    if not 0 < texture_share < 1:
        raise ConfigError(f"texture_share is a fraction of the steps, between 0 and 1, got {texture_share}.")
    patches = Patches(*x.shape[1:], side=patch, stride=1 if overlap else patch, join=join)
    squares = crops(patch)
    up, down = _patch_pair(squares.train.x.sample(), texture_latent, texture_hidden, activation)
    first = Stage(
        "texture",
        ELBO()(Chain(StandardNormal(texture_latent), [], down), BottomUp([up])),
        share=texture_share,
        data=(squares.train.x, squares.validation.x),
        settings={"lr": texture_lr, "batch_size": texture_batch, "lr_decay": 0.0},
        until=PlateauRule(),
    )
    encode, decode = PatchEncoder(up, patches), PatchDecoder(down, patches)
    # The features are not known before stage one is trained; zeros have their shape.
    one = Batch(torch.zeros(1, *encode.event), {name: y[:1] for name, y in given_of(x).items()})
    blocks = BuildingBlocks(one, "gaussian", SCALE, hidden, (), activation, network, prior=prior, components=components)
    build, given = network_pair(network).decoder, blocks.given
    top = blocks.prior_of(latent)
    p = blocks.decoder_with(latent + blocks.width, net=lambda inputs, _: build(inputs, encode.event, hidden, activation))
    q = blocks.encoder(latent)
    model = Chain(top, [], p, first=2, given=given)
    guide = BottomUp([ImagePosterior(q, encode)], first=2, given=given)
    if joint == "none":
        objective: Objective = ELBO()(model, BottomUp([q], first=2, given=given))
    elif joint == "features":
        objective = ELBO()(EncodingModel(model, encode), guide)
    else:
        objective = PixelError(decode)(EncodingModel(model, encode, decode), guide)
    pixels = Pixels(
        Chain(top, [], ImageLikelihood(p, decode, SCALE), first=2, given=given),
        guide,
        f"z1, the codes of {patches.rows} x {patches.columns} patches, {texture_latent} each",
        lambda images: decode(encode(images)),
        variance=None
        if joint == "none"
        else lambda x: (encode.variance_over_patches(x.to(encode.spread.device)).item(), encode.spread.item()),
    )
    second = Stage(
        "global",
        objective,
        share=1 - texture_share,
        view=encode if joint == "none" else None,
        before=partial(_measure_features, encode, q, x_of(x)[:SAMPLE].clone()),
        keep=joint == "none",
        pixels=pixels,
    )
    return [first, second]


def _patch_pair(x: Tensor, latent: int, hidden: tuple[int, ...], activation: str) -> tuple[Gaussian, nn.Module]:
    """q(z1 | patch) and p(patch | z1), fully connected, so that the encoder can become a convolution."""
    up = BuildingBlocks(x, "gaussian", SCALE, hidden, activation=activation, squash=True)
    return up.encoder(latent), replace(up, hidden=hidden[::-1]).decoder(latent)


@torch.no_grad()
def _measure_features(encode: PatchEncoder, q: Gaussian, x: Tensor) -> None:
    """Stores the mean and the variance of the features, which are known once stage one is trained."""
    device = next(encode.parameters()).device
    encode.to(device)  # its buffer is no part of an objective that sees features
    features = encode(x.to(device))
    if q.input_mean is not None:
        q.input_mean[: features[0].numel()].copy_(features.mean(0).flatten())
    encode.spread.copy_(encode.variance_over_patches(x.to(device)))
