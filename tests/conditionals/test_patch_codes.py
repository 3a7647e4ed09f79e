"""Maps of patch codes: one convolution instead of many patches, and the conditionals of images, by hand."""

import math

import pytest
import torch
from patch_pairs import OVERLAPPING, SCALE, TILING, Pair, by_patches, images_for, texture_decoder, texture_encoder, texture_mean
from torch import nn
from torch.testing import assert_close

from pyro_hvae import latents, reconstruct
from pyro_hvae.conditionals import patch_codes
from pyro_hvae.conditionals.gaussian import Gaussian
from pyro_hvae.conditionals.patch_codes import ImageLikelihood, ImagePosterior, PatchDecoder, PatchEncoder
from pyro_hvae.errors import ConfigError
from pyro_hvae.networks.patches import Patches
from pyro_hvae.objectives.elbo import ELBO

LAYOUTS = pytest.mark.parametrize("patches", [OVERLAPPING, TILING], ids=["overlapping", "tiling"])


@LAYOUTS
@pytest.mark.parametrize("input_mean", [True, False])
def test_one_convolution_equals_the_encoder_on_every_patch(patches, input_mean):
    encode = PatchEncoder(texture_encoder(patches, 16, input_mean, hidden=(128, 64)), patches)
    x = images_for(patches, 4)
    found = encode(x)
    assert found.shape == (4, 16, patches.rows, patches.columns) == (4, *encode.event)
    assert (found - by_patches(encode, x)).abs().max() < 1e-5


@LAYOUTS
@pytest.mark.parametrize("input_mean", [True, False])
@pytest.mark.parametrize(
    "network",
    [{}, {"hidden": ()}, {"activation": "gated"}, {"activation": "tanh"}, {"isotropic": True}, {"scale": 1.0}, {"norm": True}],
    ids=str,
)
def test_one_convolution_equals_the_encoder_to_rounding_in_double_precision(float64, patches, input_mean, network):
    encode = PatchEncoder(texture_encoder(patches, 5, input_mean, **network), patches).eval()
    x = images_for(patches, 3)
    assert (encode(x) - by_patches(encode, x)).abs().max() < 1e-13


def test_the_border_is_padded_with_zeros_also_where_a_mean_is_subtracted(float64):
    """A linear encoder that adds up what it sees, less the mean: at a corner of ones, 16 of the 49 pixels are seen."""
    q = Gaussian((1, 7, 7), 1, (), scale=1.0, input_mean=torch.full((1, 7, 7), 0.5))
    q.net[0].weight.data.fill_(1.0)
    q.net[0].bias.data.fill_(3.0)
    codes = PatchEncoder(q, Patches(1, 9, 11))(torch.ones(1, 1, 9, 11))[0, 0]
    assert codes[0, 0].item() == pytest.approx(3 + 16 - 24.5) and codes[4, 5].item() == pytest.approx(3 + 49 - 24.5)
    assert codes[0, 5].item() == pytest.approx(3 + 28 - 24.5) and codes[8, 9].item() == pytest.approx(3 + 4 * 5 - 24.5)


@LAYOUTS
def test_plates_are_a_batch_of_images(float64, patches):
    encode, decode = PatchEncoder(texture_encoder(patches), patches), PatchDecoder(texture_decoder(patches), patches)
    x = images_for(patches, 2, 3)
    codes = encode(x)
    assert codes.shape == (2, 3, *encode.event) and encode(x[0, 0]).shape == encode.event
    assert_close(codes.flatten(0, 1), encode(x.flatten(0, 1)))
    assert_close(encode(x[1, 2]), codes[1, 2])
    images = decode(codes)
    assert images.shape == x.shape and decode(codes[0, 0]).shape == x.shape[2:]
    assert_close(images.flatten(0, 1), decode(codes.flatten(0, 1)))
    q, p = Gaussian(encode.event, 4, (6,)), Gaussian(4, encode.event, (6,), scale=SCALE)
    assert_close(ImagePosterior(q, encode)(x).mean, q(codes).mean)
    assert ImagePosterior(q, encode)(x).batch_shape == (2, 3)
    z = torch.randn(2, 3, 4)
    assert_close(
        ImageLikelihood(p, decode, SCALE)(z).mean.flatten(0, 1), ImageLikelihood(p, decode, SCALE)(z.flatten(0, 1)).mean
    )
    assert ImageLikelihood(p, decode, SCALE)(z).batch_shape == (2, 3)


class Counted(nn.Module):
    """Notes how many rows a module is given at a time."""

    def __init__(self, net):
        super().__init__()
        self.net, self.sizes = net, []

    def forward(self, *inputs):
        self.sizes.append(len(inputs[0]))
        return self.net(*inputs)


@pytest.mark.parametrize("size, chunks", [(3, [3]), (4, [3, 1]), (8, [3, 3, 2])])
def test_chunks_without_gradient_equal_one_pass(float64, monkeypatch, size, chunks):
    monkeypatch.setitem(patch_codes.CHUNK_SIZES, "cpu", 3)
    encode, p = PatchEncoder(texture_encoder(OVERLAPPING), OVERLAPPING), Counted(texture_decoder(OVERLAPPING))
    decode, above = PatchDecoder(p, OVERLAPPING), Counted(Gaussian(encode.event, 4, (6,)))
    below = Counted(Gaussian(4, encode.event, (6,), scale=SCALE))
    seen, decoded = ImagePosterior(above, encode), ImageLikelihood(below, decode, SCALE)
    above.event = above.net.event
    x, z = images_for(OVERLAPPING, size), torch.randn(size, 4)

    def everything():
        codes = encode(x)
        return codes, decode(codes), seen(x).mean, seen(x).stddev, decoded(z).mean

    whole = everything()
    assert p.sizes == [size, size] and above.sizes == [size, size] and below.sizes == [size]
    for module in (p, above, below):
        module.sizes.clear()
    with torch.no_grad():
        apart = everything()
    assert p.sizes == 2 * chunks and above.sizes == 2 * chunks and below.sizes == chunks
    for a, b in zip(whole, apart, strict=True):
        assert a.shape == b.shape and not b.requires_grad
        assert_close(a, b)


def test_the_gradient_reaches_every_weight_of_the_mean(float64):
    encode = PatchEncoder(texture_encoder(OVERLAPPING), OVERLAPPING)
    x, weight = images_for(OVERLAPPING, 2), torch.randn(2, *encode.event)
    by_hand = torch.autograd.grad((by_patches(encode, x) * weight).sum(), list(encode.q.parameters()))
    found = torch.autograd.grad((encode(x) * weight).sum(), list(encode.q.parameters()))
    for a, b in zip(found, by_hand, strict=True):
        assert_close(a, b)
    assert all(g.abs().sum() > 0 for g in found)
    assert found[-1][: encode.q.features].abs().min() > 0 and found[-1][encode.q.features :].abs().max() == 0  # no sigma


def test_the_parameters_are_shared_with_the_encoder():
    q = texture_encoder(OVERLAPPING)
    encode, x = PatchEncoder(q, OVERLAPPING), images_for(OVERLAPPING, 2)
    assert {id(p) for p in encode.parameters()} == {id(p) for p in q.parameters()}
    before = encode(x)
    q.net[0].weight.data.mul_(2)
    q.input_mean.mul_(0.5)
    assert not torch.equal(encode(x), before) and (encode(x) - by_patches(encode, x)).abs().max() < 1e-5


def test_networks_and_shapes_that_do_not_fit_are_refused():
    conv = nn.Sequential(nn.Unflatten(-1, (3, 7, 7)), nn.Conv2d(3, 10, 7), nn.Flatten(-3))
    for net in (conv, nn.Linear(147, 10)):
        with pytest.raises(ConfigError, match=r"begins with a linear layer \(mlp\)"):
            PatchEncoder(Gaussian((3, 7, 7), 5, net=net), OVERLAPPING)
    for parents in ((3, 5, 5), (7, 7, 3), 147, [(3, 7, 7), (2,)]):
        with pytest.raises(ConfigError, match=r"those to encode have \(3, 7, 7\)"):
            PatchEncoder(Gaussian(parents, 5), OVERLAPPING)
    encode = PatchEncoder(texture_encoder(OVERLAPPING), OVERLAPPING)
    for shape in ((2, 3, 11, 9), (2, 1, 9, 11), (9, 11), (2, 3 * 9 * 11)):
        with pytest.raises(ConfigError, match=r"made for images of shape \(3, 9, 11\)"):
            encode(torch.zeros(shape))


@pytest.mark.parametrize(
    "patches", [OVERLAPPING, TILING, Patches(3, 9, 11, join="centre")], ids=["average", "tiling", "centre"]
)
def test_a_decoder_that_ignores_its_code_gives_the_joined_patch(patches):
    p = Gaussian(5, patches.event, (), scale=SCALE)
    p.net[0].weight.data.zero_()
    one = torch.rand(patches.event)
    p.net[0].bias.data.copy_(one.flatten())
    decode = PatchDecoder(p, patches)
    image = decode(torch.randn(2, 5, patches.rows, patches.columns))
    assert_close(image, patches.put(one.expand(2, patches.rows, patches.columns, *patches.event)))
    p.net[0].bias.data.fill_(0.25)
    constant = decode(torch.randn(2, 5, patches.rows, patches.columns))
    assert_close(constant, torch.full((2, 3, patches.height, patches.width), 0.25))


@pytest.mark.parametrize(
    "patches", [Patches(2, 5, 6, side=3), Patches(2, 4, 6, side=2, stride=2)], ids=["overlapping", "tiling"]
)
def test_every_code_becomes_a_patch_at_its_place(float64, patches):
    p = texture_decoder(patches)
    maps = torch.randn(2, 5, patches.rows, patches.columns)
    total, count = torch.zeros(2, 2, patches.height, patches.width), torch.zeros(patches.height, patches.width)
    for row in range(patches.rows):
        for column in range(patches.columns):
            mean = p(maps[:, :, row, column]).mean
            for i in range(patches.side):
                for j in range(patches.side):
                    y = row * patches.stride + i - patches.padding
                    x = column * patches.stride + j - patches.padding
                    if 0 <= y < patches.height and 0 <= x < patches.width:
                        total[:, :, y, x] += mean[:, :, i, j]
                        count[y, x] += 1
    assert_close(PatchDecoder(p, patches)(maps), total / count)


def test_the_variance_over_patches_by_hand(float64):
    """Codes that are the pixels themselves, of two channels: 1, 2, 3, 6 have variance 3.5, and 0, 0, 4, 4 have 4."""
    q = Gaussian((2, 1, 1), 2, (), scale=1.0)
    q.net[0].weight.data.copy_(torch.eye(2))
    encode = PatchEncoder(q, Patches(2, 1, 2, side=1))
    x = torch.tensor([[[[1.0, 2.0]], [[0.0, 4.0]]], [[[3.0, 6.0]], [[4.0, 0.0]]]])
    assert encode.variance_over_patches(x).item() == pytest.approx(3.5 + 4)
    q.net[0].bias.data.add_(100)
    assert encode.variance_over_patches(x).item() == pytest.approx(7.5)  # about the mean
    q.net[0].weight.data[0] *= 3
    assert encode.variance_over_patches(x).item() == pytest.approx(9 * 3.5 + 4)
    assert encode.spread == 0


@LAYOUTS
def test_the_variance_of_a_constant_code_is_zero(patches):
    encode = PatchEncoder(texture_encoder(patches), patches)
    x = images_for(patches, 3)
    assert encode.variance_over_patches(x) > 1e-4
    encode.q.net[-1].weight.data.zero_()
    encode.q.net[-1].bias.data.fill_(7.3)
    assert encode.variance_over_patches(x) == 0


@LAYOUTS
def test_the_variance_is_of_all_patches_of_all_images(patches):
    """Also without differences between the images, or between the patches of one."""
    encode = PatchEncoder(texture_encoder(patches), patches)
    x = images_for(patches, 3)
    codes = encode(x).movedim(1, -1).flatten(0, 2).double()
    expected = (codes - codes.mean(0)).square().mean(0).sum().detach()
    assert_close(encode.variance_over_patches(x), expected)
    assert not encode.variance_over_patches(x).requires_grad


@LAYOUTS
def test_image_posterior_and_image_likelihood_are_compositions(float64, patches):
    pair = Pair(patches)
    codes = by_patches(pair.encode, pair.x)
    found, expected = ImagePosterior(pair.q, pair.encode)(pair.x), pair.q(codes)
    assert found.batch_shape == (3,) and found.event_shape == (4,)
    assert_close(found.mean, expected.mean)
    assert_close(found.stddev, expected.stddev)
    z = torch.randn(3, 4)
    found = ImageLikelihood(pair.p, pair.decode, 0.3)(z)
    maps = pair.p(z).mean
    expected = patches.put(texture_mean(pair, maps))
    assert found.batch_shape == (3,) and found.event_shape == pair.x.shape[1:]
    assert_close(found.mean, expected)
    assert_close(found.stddev, torch.full_like(expected, 0.3))


@LAYOUTS
def test_the_pixel_pair_keeps_the_contract_and_its_likelihood_is_the_sum_of_squares(float64, patches):
    """At sigma^2 = 1/2: -log p(x | z2) = |x - D(E[z1 | z2])|^2 + D / 2 log pi."""
    pair = Pair(patches)
    for particles in (1, 3):
        ELBO(particles=particles).check(pair.pixels, pair.seen, pair.x)
    estimate = ELBO().estimate(pair.pixels, pair.seen, pair.x)
    z = estimate.latents["z2"]
    off = pair.x - patches.put(texture_mean(pair, pair.p(z).mean))
    expected = off.square().flatten(1).sum(1) + pair.x[0].numel() / 2 * math.log(math.pi)
    assert_close(-estimate.terms["x"], expected)
    mean, std = pair.q(pair.encode(pair.x)).mean, pair.q(pair.encode(pair.x)).stddev
    kl = 0.5 * (mean.square() + std.square() - 1 - 2 * std.log()).sum(-1)
    assert_close(-estimate.terms["z2"], kl)
    at_means = reconstruct(pair.pixels, pair.seen, pair.x)
    assert_close(at_means, patches.put(texture_mean(pair, pair.p(mean).mean)).detach())
    assert_close(latents(pair.seen, pair.x, mean=True)["z2"], mean.detach())


def test_particles_are_a_batch_of_data(float64):
    pair = Pair()
    estimate = ELBO(particles=4).estimate(pair.pixels, pair.seen, pair.x)
    assert estimate.terms["x"].shape == (4, 3)
    off = pair.x - pair.decode(pair.p(estimate.latents["z2"].flatten(0, 1)).mean).unflatten(0, (4, 3))
    assert_close(-estimate.terms["x"], off.square().flatten(2).sum(2) + pair.x[0].numel() / 2 * math.log(math.pi))
    over_features = ELBO(particles=4).estimate(pair.encoded, pair.seen, pair.x)
    off = pair.encode(pair.x) - pair.p(over_features.latents["z2"]).mean
    expected = off.square().flatten(2).sum(2) + math.prod(pair.encode.event) / 2 * math.log(math.pi)
    assert_close(-over_features.terms["x"], expected)


@pytest.mark.parametrize("rows", [11, 1])
def test_given_inputs_are_cut_into_chunks_with_their_images(float64, rows):
    pair = Pair()
    event, y = pair.encode.event, torch.rand(rows, 2)
    q = ImagePosterior(Gaussian([event, (2,)], 4, (6,)), pair.encode)
    p = ImageLikelihood(Gaussian(4 + 2, event, (6,), scale=1.0), pair.decode, 1.0)
    x, z = images_for(pair.patches, 11), torch.randn(3, 11, 4)
    whole = q(x, y).mean, p(z, y).mean
    assert_close(whole[0], q.q(pair.encode(x), y).mean)
    assert_close(whole[1][1], p(z[1], y).mean)
    with torch.no_grad():
        assert_close(q(x, y).mean, whole[0])
        assert_close(p(z, y).mean, whole[1])
