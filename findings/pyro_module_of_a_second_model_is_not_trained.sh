#!/usr/bin/env bash
# pyro-ppl 1.9.2 with torch 2.13.0: two models of one process that announce their networks by one name.
#
# Expected: SVI trains the second model, or an error says that its name is taken. The idiom of most examples,
# pyro.module("decoder", self.decoder) in a method, gives every instance of a class the same name.
# Seen: the second model's parameters stay where they were through 100 steps, and no warning is given: the store keeps the first
# model's tensors under the name, pyro.module returns the second module unchanged, and SVI steps what is in the store.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet torch==2.13.0 pyro-ppl==1.9.2
"$folder/env/bin/python" -W error::UserWarning - <<'PYTHON'
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Trace_ELBO


class Line(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(1, 1)

    def model(self, x, y):
        pyro.module("net", self.net)
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(self.net(x)[:, 0], 1.0), obs=y)

    def guide(self, x, y):
        pass


torch.manual_seed(0)
x = torch.randn(50, 1)
y = 3 * x[:, 0] + 1
moved = []
for _ in range(2):
    line = Line()
    before = line.net.weight.item()
    svi = SVI(line.model, line.guide, pyro.optim.Adam({"lr": 0.1}), Trace_ELBO())
    for _ in range(100):
        svi.step(x, y)
    moved.append(abs(line.net.weight.item() - before))
print("moved by", moved)
assert moved[0] > 1 and moved[1] == 0
PYTHON
