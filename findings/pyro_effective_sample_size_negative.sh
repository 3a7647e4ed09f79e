#!/usr/bin/env bash
# pyro-ppl 1.9.2 with torch 2.13.0: effective sample size of chains whose draws alternate.
#
# Expected: a positive number. Draws of negative autocorrelation have an effective size above their number: an AR(1) chain of
# coefficient -0.95 has n (1 + 0.95) / (1 - 0.95) = 39 n for the mean, which ArviZ and Stan cap at n log10 n (6,602 for 2,000 draws).
# Seen: pyro.ops.stats.effective_sample_size returns a negative number, about -5,000 of 2,000 draws, without a warning: the sum over
# pairs of autocorrelations crosses zero and stands in a denominator.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet torch==2.13.0 pyro-ppl==1.9.2
"$folder/env/bin/python" - <<'PYTHON'
import torch
from pyro.ops.stats import effective_sample_size

torch.manual_seed(0)
chains = torch.zeros(4, 500)
for step in range(1, 500):
    chains[:, step] = -0.95 * chains[:, step - 1] + torch.randn(4)
size = effective_sample_size(chains, chain_dim=0, sample_dim=1).item()
print(f"{size:.0f} of {chains.numel()}")
assert size < 0
PYTHON
