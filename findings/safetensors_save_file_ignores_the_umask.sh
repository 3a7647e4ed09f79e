#!/usr/bin/env bash
# safetensors 0.8.0: save_file makes a file that only its owner may read, whatever the umask.
#
# Expected: the mode that every new file gets, 0666 less the umask: 0644 with the umask 022, as of open(path, "wb") and of
# safetensors 0.7.0. Weights are files to share: others on the machine, a web server or a group could read them.
# Seen: mode 0600 with the umask 022 and with the umask 002, also where save_file replaces a file of mode 0644.
# pyro-hvae writes the bytes of safetensors' save itself.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet numpy==2.3.5
for version in 0.7.0 0.8.0; do
  "$folder/env/bin/pip" install --quiet "safetensors==$version"
  "$folder/env/bin/python" - "$folder" "$version" <<'PYTHON'
import os
import stat
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save, save_file

folder, version = Path(sys.argv[1]), sys.argv[2]
tensors = {"weight": np.ones(3, np.float32)}
for umask in (0o022, 0o002):
    os.umask(umask)
    usual, saved, there = (folder / f"{version}-{umask:03o}-{name}" for name in ("usual", "saved", "there"))
    usual.write_bytes(save(tensors))
    there.write_bytes(b"")
    save_file(tensors, saved)
    save_file(tensors, there)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (usual, saved, there)]
    print(f"safetensors {version}, umask {umask:03o}: written {modes[0]:04o}, save_file {modes[1]:04o}, replaced {modes[2]:04o}")
    assert modes[0] == 0o666 & ~umask
    assert modes[1:] == ([0o600] * 2 if version == "0.8.0" else [modes[0]] * 2)
PYTHON
done
