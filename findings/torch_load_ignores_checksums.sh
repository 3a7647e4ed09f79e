#!/usr/bin/env bash
# torch 2.13.0: torch.load does not compare the checksums that torch.save writes.
#
# Expected: an error for a checkpoint that a disk or a transfer has changed. torch.save writes a zip archive with a CRC-32 of every
# member, by which zipfile.ZipFile.testzip names the changed one.
# Seen: torch.load(weights_only=True) returns a changed weight without a word, here 1.0 as 0.5, with mmap and without.
# pyro-hvae compares a checksum before it loads a checkpoint.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet torch==2.13.0 numpy==2.3.5
"$folder/env/bin/python" - "$folder/weights.pt" <<'PYTHON'
import sys
import zipfile

import torch

path = sys.argv[1]
torch.save({"weight": torch.ones(100)}, path)
data = bytearray(open(path, "rb").read())
place = data.index(torch.ones(100).numpy().tobytes())
data[place + 2] ^= 0x80  # one bit: the exponent of the first weight
open(path, "wb").write(data)
print("zipfile:", zipfile.ZipFile(path).testzip())
assert zipfile.ZipFile(path).testzip().endswith("data/0")
for mmap in (False, True):
    first = torch.load(path, weights_only=True, mmap=mmap)["weight"][0].item()
    print("torch.load:", first)
    assert first == 0.5
PYTHON
