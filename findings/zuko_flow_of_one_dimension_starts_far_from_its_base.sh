#!/usr/bin/env bash
# zuko 1.6.0: how far a fresh flow of one dimension is from its base, a standard normal distribution.
#
# Expected: a fresh one-dimensional flow starts as near its base as one of two or more dimensions does, whose networks give small
# parameters (a KL of a fraction of a nat): a fresh prior is then about N(0, 1).
# Seen: with one feature and no context there is no network; the parameters of each transformation are drawn from N(0, 1) and
# enter as they are: in the mean over ten seeds NSF(1) is 4.2 nats from N(0, 1) and MAF(1) 8.0 (two dimensions: 0.24 and 0.06).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet torch==2.13.0 numpy zuko==1.6.0
"$folder/env/bin/python" - <<'PYTHON'
import torch
import zuko

torch.distributions.Distribution.set_default_validate_args(False)


def divergence(make, features):
    """KL(N(0, I) || flow) by 20,000 draws, the mean over ten seeds."""
    values = []
    for seed in range(10):
        torch.manual_seed(seed)
        flow = make(features)()
        base = torch.distributions.Independent(torch.distributions.Normal(torch.zeros(features), 1.0), 1)
        z = base.sample((20_000,))
        with torch.no_grad():
            values.append((base.log_prob(z) - flow.log_prob(z)).mean().item())
    return sum(values) / len(values)


for name, make, least in (("NSF", zuko.flows.NSF, 3.0), ("MAF", zuko.flows.MAF, 0.5)):
    one, two = divergence(make, 1), divergence(make, 2)
    print(f"{name}: KL of N(0, I) from a fresh flow: {one:.2f} nats in one dimension, {two:.3f} in two")
    assert one > least > 8 * two
PYTHON
