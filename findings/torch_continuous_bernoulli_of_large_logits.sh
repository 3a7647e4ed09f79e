#!/usr/bin/env bash
# torch 2.13.0: torch.distributions.ContinuousBernoulli(logits=...) in float32 beyond a logit of about 16.
#
# Expected: the density eta exp(eta x) / (exp(eta) - 1) of logits eta, whose mean tends to 1 like 1 - 1 / eta, and a log-density
# of log(eta) at x = 1; a given logit should not lose precision, for no probability has to be computed from it.
# Seen: the logits become probabilities that are clamped to 1 - 1.2e-7, so that from eta = 16 on the mean stays at 0.937 and the
# normaliser at that of 15.9: the density integrates to 0.797 at a logit of 20 and to 0.319 at 50, without a warning.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet torch==2.13.0 numpy
"$folder/env/bin/python" - <<'PYTHON'
import torch
from torch.distributions import ContinuousBernoulli

x = torch.linspace(0, 1, 200_001, dtype=torch.float64)
for eta, seen in ((5.0, 1.0), (10.0, 1.0), (20.0, 0.797), (50.0, 0.319)):
    law = ContinuousBernoulli(logits=torch.tensor(eta))
    mass = torch.trapezoid(law.log_prob(x.float()).double().exp(), x).item()
    mean = (1 / (1 - torch.tensor(-eta).double().exp()) - 1 / eta).item()
    print(f"logit {eta:g}: the density integrates to {mass:.3f}; mean {law.mean.item():.4f}, exactly {mean:.4f}")
    assert abs(mass - seen) < 2e-3
PYTHON
