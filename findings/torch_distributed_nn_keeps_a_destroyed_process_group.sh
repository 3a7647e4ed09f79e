#!/usr/bin/env bash
# torch 2.14.1: torch.distributed.nn imported after init_process_group, as torch._dynamo does by itself.
#
# Expected: after destroy_process_group the threads of the backend gloo have ended.
# Seen: they live to the end of the process. The functions of torch.distributed.nn.functional have the default `group=group.WORLD`, which is
# the group that exists at their import, and holds it for ever. With those threads alive a process was once seen to end by SIGABRT at its
# exit ("terminate called without an active exception"), after a training of two processes.
# pyro-hvae imports the module before it joins the other processes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet torch==2.14.1 numpy==2.4.6
cat > "$folder/job.py" <<'PYTHON'
import gc
import importlib
import os
import sys

import torch.distributed as dist

when = sys.argv[1]
if when == "before":
    importlib.import_module("torch.distributed.nn")
dist.init_process_group("gloo", init_method="tcp://127.0.0.1:29512", rank=0, world_size=1)
if when == "after":
    importlib.import_module("torch.distributed.nn")
dist.destroy_process_group()
gc.collect()
names = [open(f"/proc/self/task/{task}/comm").read() for task in os.listdir("/proc/self/task")]
print(when, "threads of gloo:", sum("gloo" in name for name in names))
PYTHON
for when in never before after; do "$folder/env/bin/python" "$folder/job.py" "$when" 2> /dev/null; done | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
never threads of gloo: 0
before threads of gloo: 0
after threads of gloo: 3
SEEN
