"""A generative program over features, as one that is given the data they are made from."""

from torch import Tensor, nn


class EncodingModel(nn.Module):
    """Encodes x and runs a program that observes the features; the gradient reaches the encoder.

    A density of features that may change is no density of x: features that are the same for every x reach its maximum. This is
    the end-to-end objective that degenerates in the paper (Sahoo 2020).

    Arguments:
        program: a generative program over features. encode: from x to the features.
        decode: a decoder of features that an objective trains along (see `PixelError`); it is not used here.

    Shapes: as the program's, which gets the given inputs as they are; x has the shape that `encode` takes.
    """

    def __init__(self, program: nn.Module, encode: nn.Module, decode: nn.Module | None = None) -> None:
        super().__init__()
        self.program, self.encode, self.decode = program, encode, decode

    def forward(self, x: Tensor | None = None, size: int = 1, **given: Tensor) -> Tensor:
        return self.program(None if x is None else self.encode(x), size, **given)
