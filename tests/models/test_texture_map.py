"""Maps of codes: one convolution instead of many patches, the pairs over pixels and over features, by hand."""

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from pyro_hvae import latents, reconstruct
from pyro_hvae.conditionals.gaussian import Gaussian, StandardNormal
from pyro_hvae.errors import ConfigError
from pyro_hvae.guides import BottomUp
from pyro_hvae.inference.sampling import bound
from pyro_hvae.models import Chain
from pyro_hvae.models import texture_map as texture_maps
from pyro_hvae.models.texture_map import Decoded, Encoded, PatchDecoder, PatchEncoder, PixelError, Seen
from pyro_hvae.networks.patches import Patches
from pyro_hvae.objectives.elbo import ELBO

SCALE = math.sqrt(0.5)
OVERLAPPING = Patches(3, 9, 11, side=7)
TILING = Patches(3, 8, 12, side=4, stride=4)
LAYOUTS = pytest.mark.parametrize("patches", [OVERLAPPING, TILING], ids=["overlapping", "tiling"])


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


@LAYOUTS
@pytest.mark.parametrize("input_mean", [True, False])
def test_one_convolution_is_the_encoder_on_every_patch(patches, input_mean):
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
def test_it_is_so_to_rounding_in_double_precision(float64, patches, input_mean, network):
    encode = PatchEncoder(texture_encoder(patches, 5, input_mean, **network), patches).eval()
    x = images_for(patches, 3)
    assert (encode(x) - by_patches(encode, x)).abs().max() < 1e-13


def test_beyond_the_border_there_are_zeros_also_where_a_mean_is_subtracted(float64):
    """A linear encoder that adds up what it sees, less the mean: at a corner of ones, 16 of the 49 pixels are seen."""
    q = Gaussian((1, 7, 7), 1, (), scale=1.0, input_mean=torch.full((1, 7, 7), 0.5))
    q.net[0].weight.data.fill_(1.0)
    q.net[0].bias.data.fill_(3.0)
    codes = PatchEncoder(q, Patches(1, 9, 11))(torch.ones(1, 1, 9, 11))[0, 0]
    assert codes[0, 0].item() == pytest.approx(3 + 16 - 24.5) and codes[4, 5].item() == pytest.approx(3 + 49 - 24.5)
    assert codes[0, 5].item() == pytest.approx(3 + 28 - 24.5) and codes[8, 9].item() == pytest.approx(3 + 4 * 5 - 24.5)


@LAYOUTS
def test_more_plates_are_so_many_images(float64, patches):
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
    assert_close(Seen(q, encode)(x).mean, q(codes).mean)
    assert Seen(q, encode)(x).batch_shape == (2, 3)
    z = torch.randn(2, 3, 4)
    assert_close(Decoded(p, decode, SCALE)(z).mean.flatten(0, 1), Decoded(p, decode, SCALE)(z.flatten(0, 1)).mean)
    assert Decoded(p, decode, SCALE)(z).batch_shape == (2, 3)


class Counted(nn.Module):
    """Notes how many rows a module is given at a time."""

    def __init__(self, net):
        super().__init__()
        self.net, self.sizes = net, []

    def forward(self, *inputs):
        self.sizes.append(len(inputs[0]))
        return self.net(*inputs)


@pytest.mark.parametrize("size, pieces", [(3, [3]), (4, [3, 1]), (8, [3, 3, 2])])
def test_pieces_without_gradient_are_one_pass(float64, monkeypatch, size, pieces):
    monkeypatch.setitem(texture_maps.PIECES, "cpu", 3)
    encode, p = PatchEncoder(texture_encoder(OVERLAPPING), OVERLAPPING), Counted(texture_decoder(OVERLAPPING))
    decode, above = PatchDecoder(p, OVERLAPPING), Counted(Gaussian(encode.event, 4, (6,)))
    below = Counted(Gaussian(4, encode.event, (6,), scale=SCALE))
    seen, decoded = Seen(above, encode), Decoded(below, decode, SCALE)
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
    assert p.sizes == 2 * pieces and above.sizes == 2 * pieces and below.sizes == pieces
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


def test_its_parameters_are_the_encoders_own():
    q = texture_encoder(OVERLAPPING)
    encode, x = PatchEncoder(q, OVERLAPPING), images_for(OVERLAPPING, 2)
    assert {id(p) for p in encode.parameters()} == {id(p) for p in q.parameters()}
    before = encode(x)
    q.net[0].weight.data.mul_(2)
    q.input_mean.mul_(0.5)
    assert not torch.equal(encode(x), before) and (encode(x) - by_patches(encode, x)).abs().max() < 1e-5


def test_what_cannot_become_a_convolution():
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
def test_a_decoder_that_ignores_its_code_gives_the_patch_joined(patches):
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
def test_the_variance_of_a_constant_code_is_none(patches):
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
        self.encoded, self.seen = Encoded(self.model, self.encode), BottomUp([Seen(self.q, self.encode)], first=2)
        self.pixels = Chain(prior, [], Decoded(self.p, self.decode, SCALE), first=2)
        self.x = images_for(patches, 3)


@LAYOUTS
def test_seen_and_decoded_are_compositions(float64, patches):
    pair = Pair(patches)
    codes = by_patches(pair.encode, pair.x)
    found, expected = Seen(pair.q, pair.encode)(pair.x), pair.q(codes)
    assert found.batch_shape == (3,) and found.event_shape == (4,)
    assert_close(found.mean, expected.mean)
    assert_close(found.stddev, expected.stddev)
    z = torch.randn(3, 4)
    found = Decoded(pair.p, pair.decode, 0.3)(z)
    maps = pair.p(z).mean
    expected = patches.put(texture_mean(pair, maps))
    assert found.batch_shape == (3,) and found.event_shape == pair.x.shape[1:]
    assert_close(found.mean, expected)
    assert_close(found.stddev, torch.full_like(expected, 0.3))


def texture_mean(pair, maps):
    """E[patch | z1] of every code, (n, rows, columns, channels, side, side)."""
    return torch.stack([pair.decode.p(code).mean for code in maps.flatten(2).unbind(2)], 1).unflatten(1, maps.shape[2:])


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


def test_particles_are_so_many_data(float64):
    pair = Pair()
    estimate = ELBO(particles=4).estimate(pair.pixels, pair.seen, pair.x)
    assert estimate.terms["x"].shape == (4, 3)
    off = pair.x - pair.decode(pair.p(estimate.latents["z2"].flatten(0, 1)).mean).unflatten(0, (4, 3))
    assert_close(-estimate.terms["x"], off.square().flatten(2).sum(2) + pair.x[0].numel() / 2 * math.log(math.pi))
    over_features = ELBO(particles=4).estimate(pair.encoded, pair.seen, pair.x)
    off = pair.encode(pair.x) - pair.p(over_features.latents["z2"]).mean
    expected = off.square().flatten(2).sum(2) + math.prod(pair.encode.event) / 2 * math.log(math.pi)
    assert_close(-over_features.terms["x"], expected)


@LAYOUTS
def test_encoded_is_the_pair_on_the_codes(float64, patches):
    pair = Pair(patches)
    outer, inner = ELBO()(pair.encoded, pair.seen), ELBO()(pair.model, pair.guide)
    torch.manual_seed(3)
    found = outer.estimate(pair.x)
    torch.manual_seed(3)
    expected = inner.estimate(pair.encode(pair.x))
    assert set(found.terms) == {"x", "z2"}
    for name, term in expected.terms.items():
        assert_close(found.terms[name], term)
    assert_close(found.loss(), expected.loss())
    constant = math.prod(pair.encode.event) / 2 * math.log(math.pi)
    off = pair.encode(pair.x) - pair.p(found.latents["z2"]).mean
    kl = -expected.terms["z2"]
    assert_close(found.loss(), (off.square().flatten(1).sum(1) + kl).mean() + constant)
    assert pair.encoded(size=2).shape == (2, *pair.encode.event)
    ours = {id(p) for p in pair.encoded.parameters()}
    assert ours == {id(p) for module in (pair.p, pair.encode) for p in module.parameters()}


def test_a_decoder_that_is_held_is_trained_and_changes_nothing(float64):
    pair = Pair()
    holding = Encoded(pair.model, pair.encode, pair.decode)
    torch.manual_seed(3)
    found = ELBO().estimate(holding, pair.seen, pair.x).loss()
    torch.manual_seed(3)
    assert_close(found, ELBO().estimate(pair.encoded, pair.seen, pair.x).loss())
    more = {id(p) for p in holding.parameters()} - {id(p) for p in pair.encoded.parameters()}
    assert more == {id(p) for p in pair.decode.parameters()}


class Detached(nn.Module):
    def __init__(self, encode):
        super().__init__()
        self.net = encode

    def forward(self, x):
        return self.net(x).detach()


def test_the_gradient_into_the_encoder_is_the_sum_of_both_sides(float64):
    """What is observed, and what z2 is inferred from: each has one of its own, and together they are that of the loss."""
    pair = Pair()
    frozen = Detached(pair.encode)
    weights = [p for p in pair.encode.q.parameters()]

    def gradient(observed, inferred):
        objective = ELBO()(Encoded(pair.model, observed), BottomUp([Seen(pair.q, inferred)], first=2))
        torch.manual_seed(3)
        grads = torch.autograd.grad(objective.estimate(pair.x).loss(), weights, allow_unused=True)
        return torch.cat([(torch.zeros_like(w) if g is None else g).flatten() for w, g in zip(weights, grads, strict=True)])

    both = gradient(pair.encode, pair.encode)
    one, other = gradient(pair.encode, frozen), gradient(frozen, pair.encode)
    assert one.norm() > 1e-3 and other.norm() > 1e-3
    assert (both - one).norm() > 1e-3 and (both - other).norm() > 1e-3
    assert_close(both, one + other)


def test_features_that_shrink_make_the_pair_s_loss_fall_without_an_anchor(float64):
    """Why end-to-end training degenerates: halve the codes, and what is left to explain is a quarter; pixels know better."""
    pair = Pair()
    pair.p.net[-1].weight.data.zero_()
    pair.p.net[-1].bias.data.zero_()  # explains nothing: the distortion is the codes' sum of squares
    constant = math.prod(pair.encode.event) / 2 * math.log(math.pi)

    def distortion():
        return ELBO().estimate(pair.encoded, pair.seen, pair.x).distortion().item() - constant

    before = distortion()
    pair.encode.q.net[-1].weight.data.mul_(0.5)
    pair.encode.q.net[-1].bias.data.mul_(0.5)
    assert distortion() == pytest.approx(before / 4)


@LAYOUTS
def test_the_pixel_error_by_hand(float64, patches):
    """It counts as reconstruction cost: in the loss, weighted as x is, and in no bound."""
    pair = Pair(patches)
    objective = PixelError(pair.decode)(pair.encoded, pair.seen)
    torch.manual_seed(3)
    found = objective.estimate(pair.x)
    torch.manual_seed(3)
    plain = ELBO()(pair.encoded, pair.seen).estimate(pair.x)
    off = pair.x - patches.put(texture_mean(pair, pair.encode(pair.x)))
    expected = off.square().flatten(1).sum(1).mean()
    assert set(found.penalties) == {"pixels"} and not plain.penalties
    assert_close(found.penalties["pixels"], expected)
    assert_close(found.loss(), plain.loss() + expected)
    for name in plain.terms:
        assert_close(found.terms[name], plain.terms[name])
    assert_close(found.bound_unweighted(), plain.bound_unweighted())
    assert_close(found.distortion(), plain.distortion())
    # The weight of the rate alone leaves it, that of x takes it along.
    assert_close(found.loss({"z2": 0.0}), plain.distortion() + expected)
    assert_close(found.loss({"x": 0.25}), 0.25 * (plain.distortion() + expected) + plain.rates()["z2"])
    torch.manual_seed(3)
    rows = bound(objective.elbo, pair.encoded, pair.seen, pair.x)
    assert rows["elbo"] == pytest.approx(plain.bound_unweighted().mean().item())


def test_the_pixel_error_s_gradient(float64):
    """Into both halves of the texture VAE, whatever z2 is; a step against it makes the error less."""
    pair = Pair()
    elbo = PixelError(pair.decode)

    def error():
        return elbo.estimate(pair.encoded, pair.seen, pair.x).penalties["pixels"]

    before = error()
    before.backward()
    assert all(w.grad is None for m in (pair.p, pair.q) for w in m.parameters())
    step, squares = 1e-6, 0.0
    for module in (pair.encode, pair.decode):
        for parameter in module.parameters():
            if parameter.grad is not None:
                squares += parameter.grad.square().sum().item()
                parameter.data.sub_(step * parameter.grad)
        assert sum(w.grad.square().sum() for w in module.parameters() if w.grad is not None) > 0
    assert (before - error()).item() == pytest.approx(step * squares, rel=1e-2)
