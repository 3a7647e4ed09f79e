#!/usr/bin/env bash
# zuko 1.6.0 with torch 2.13.0 and pyro-ppl 1.9.2: what an import of zuko changes for other distributions.
#
# Expected: importing a library of flows leaves the distributions of torch and Pyro as they are; arguments are validated by default.
# Seen: the import sets the default of torch.distributions.Distribution, so that from then on every distribution of the process is
# built without validation: a negative scale raises ValueError before the import, and is accepted, with a log-density of NaN, after.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet torch==2.13.0 numpy zuko==1.6.0 pyro-ppl==1.9.2
"$folder/env/bin/python" - <<'PYTHON'
import pyro.distributions as dist
import torch


def negative_scale():
    try:
        return f"log-density {dist.Normal(0.0, -1.0).log_prob(torch.zeros(())).item()}"
    except ValueError:
        return "ValueError"


before = negative_scale()
import zuko  # noqa: E402, F401

after = negative_scale()
print(f"Normal(0, -1) before the import: {before}; after it: {after}")
assert (before, after) == ("ValueError", "log-density nan")
PYTHON
