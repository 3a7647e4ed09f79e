#!/usr/bin/env bash
# pyro-ppl 1.9.2 with torch 2.13.0: poutine.scale and poutine.mask around a latent site of the model only, in TraceMeanField_ELBO.
#
# Expected: the bound of Trace_ELBO, whose terms are exact here but for draws: log p is scaled, log q is not; -0.45 nats in the
# mean for a scale of 1/2. Masked in the model only, log q alone is left: -1.42.
# Seen: 0.5 and 0.5, KL(q || p) without scale or mask: the mean-field bound takes those of the guide's site alone, with no warning.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet torch==2.13.0 pyro-ppl==1.9.2
"$folder/env/bin/python" - <<'PYTHON'
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO


def scaled():
    with poutine.scale(scale=0.5):
        pyro.sample("z", dist.Normal(0.0, 1.0))


def masked():
    with poutine.mask(mask=False):
        pyro.sample("z", dist.Normal(0.0, 1.0))


def guide():
    pyro.sample("z", dist.Normal(1.0, 1.0))


torch.manual_seed(0)
for model, exact in ((scaled, -0.4500), (masked, -1.4189)):
    by_draws = sum(Trace_ELBO().loss(model, guide) for _ in range(5000)) / 5000
    mean_field = TraceMeanField_ELBO().loss(model, guide)
    print(model.__name__, "Trace_ELBO", by_draws, "TraceMeanField_ELBO", mean_field)
    assert abs(by_draws - exact) < 0.1 and abs(mean_field - 0.5) < 1e-6
PYTHON
