#!/usr/bin/env bash
# torch 2.14.1: torchrun --max-restarts on one machine, with the backend gloo.
#
# Expected: after a process is killed, torchrun starts both again, and they train on: "attempt 1 works", exit code 0.
# Seen: the new processes find the addresses of the dead ones, for the store of the launcher outlives them and its keys do not say which
# attempt they are of: "Gloo connectFullMesh failed with ... Connection refused", exit code 1. With --standalone it is the same.
# pyro-hvae gives init_process_group a store whose keys begin with TORCHELASTIC_RESTART_COUNT.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet torch==2.14.1 numpy==2.4.6
cat > "$folder/job.py" <<'PYTHON'
import os
import signal
import sys

import torch
import torch.distributed as dist

attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]
if "own-store" in sys.argv:
    store, rank, count = next(dist.rendezvous("env://"))
    dist.init_process_group("gloo", store=dist.PrefixStore(attempt, store), rank=rank, world_size=count)
else:
    dist.init_process_group("gloo")
if attempt == "0" and dist.get_rank() == 1:
    os.kill(os.getpid(), signal.SIGKILL)
dist.all_reduce(torch.ones(1))
print("attempt", attempt, "works")
PYTHON
torchrun=("$folder/env/bin/torchrun" --nproc-per-node 2 --max-restarts 1 "$folder/job.py")
if "${torchrun[@]}" > "$folder/out" 2>&1; then echo "it restarts: mended"; exit 1; fi
grep "connectFullMesh failed" "$folder/out"
"${torchrun[@]}" own-store 2> /dev/null | grep "attempt 1 works"
