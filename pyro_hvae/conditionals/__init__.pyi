from .gaussian import Gaussian as Gaussian
from .gaussian import StandardNormal as StandardNormal
from .pixel_likelihoods import Bernoulli as Bernoulli
from .pixel_likelihoods import Laplace as Laplace
from .point import Point as Point
from .vamp import GaussianMixture as GaussianMixture
from .vamp import Vamp as Vamp
