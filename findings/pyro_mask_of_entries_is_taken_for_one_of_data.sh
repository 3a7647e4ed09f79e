#!/usr/bin/env bash
# pyro-ppl 1.9.2 with torch 2.13.0: poutine.mask with a mask of single entries, (rows, columns), around a site of vectors.
#
# Expected: an error about the shape, for the log-density of a site with .to_event(1) has one number a row, or the density of the
# entries that the mask leaves in.
# Seen: an error where the shapes do not broadcast. Where they do (as many rows as columns, one row, or one column) the log-density
# of (rows,) is laid along the columns of the mask: every row's density, left-out entries included, counts once for each true value
# of a column. Of a table of 3 x 3 with one entry left out the sum of log-densities is -22.05 instead of -7.35.
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


def log_density(rows, columns):
    mask = torch.ones(rows, columns, dtype=torch.bool)
    mask[0, 0] = False

    def model():
        with pyro.plate("data", rows), poutine.mask(mask=mask):
            pyro.sample("x", dist.Normal(torch.zeros(rows, columns), 1.0).to_event(1), obs=torch.zeros(rows, columns))

    wanted = dist.Normal(0.0, 1.0).log_prob(torch.zeros(rows, columns))[mask].sum().item()
    return poutine.trace(model).get_trace().log_prob_sum().item(), wanted


for shape in ((3, 3), (1, 3), (3, 1)):
    found, wanted = log_density(*shape)
    print(f"{shape}: {found:.2f}, expected {wanted:.2f}")
    assert abs(found / wanted - 3) < 1e-5
try:
    log_density(4, 3)
except RuntimeError as error:
    print(f"(4, 3): {error}")
else:
    raise AssertionError("no error")
PYTHON
