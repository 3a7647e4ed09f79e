"""A small pair over maps of patch codes, and networks for it, as the texture recipe makes them."""

import math

import torch

from pyro_hvae.conditionals.gaussian import Gaussian, StandardNormal
from pyro_hvae.conditionals.patch_codes import ImageLikelihood, ImagePosterior, PatchDecoder, PatchEncoder
from pyro_hvae.guides import BottomUp
from pyro_hvae.models import Chain, EncodingModel
from pyro_hvae.networks.patches import Patches

SCALE = math.sqrt(0.5)
OVERLAPPING = Patches(3, 9, 11, side=7)
TILING = Patches(3, 8, 12, side=4, stride=4)


def texture_encoder(patches, latents=5, input_mean=True, **more):
    mean = torch.rand(patches.event) + 1 if input_mean else None
    return Gaussian(patches.event, latents, more.pop("hidden", (9, 8)), input_mean=mean, **more)


def texture_decoder(patches, latents=5):
    return Gaussian(latents, patches.event, (8,), scale=SCALE, squash=True)


def images_for(patches, *plates):
    return torch.rand(*plates, patches.channels, patches.height, patches.width)


def by_patches(encode, x):
    """The encoder on every patch."""
    return encode.q(encode.patches.cut(x)).mean.movedim(-1, 1)


class Pair:
    """A small pair over features and what goes with it, as the recipe makes it."""

    def __init__(self, patches=OVERLAPPING):
        self.patches = patches
        self.encode = PatchEncoder(texture_encoder(patches), patches)
        self.decode = PatchDecoder(texture_decoder(patches), patches)
        self.q = Gaussian(self.encode.event, 4, (6,), input_mean=torch.rand(self.encode.event))
        self.p = Gaussian(4, self.encode.event, (6,), scale=SCALE)
        prior = StandardNormal(4)
        self.model, self.guide = Chain(prior, [], self.p, first=2), BottomUp([self.q], first=2)
        self.encoded, self.seen = (
            EncodingModel(self.model, self.encode),
            BottomUp([ImagePosterior(self.q, self.encode)], first=2),
        )
        self.pixels = Chain(prior, [], ImageLikelihood(self.p, self.decode, SCALE), first=2)
        self.x = images_for(patches, 3)


def texture_mean(pair, maps):
    """E[patch | z1] of every code, (n, rows, columns, channels, side, side)."""
    return torch.stack([pair.decode.p(code).mean for code in maps.flatten(2).unbind(2)], 1).unflatten(1, maps.shape[2:])
