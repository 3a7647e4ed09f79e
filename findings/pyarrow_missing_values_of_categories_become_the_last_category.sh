#!/usr/bin/env bash
# pyarrow 26.0.1: ChunkedArray.to_numpy of a dictionary column with a missing value, as a Parquet column of categories is read.
#
# Expected: None in the place of the missing value, as Array.to_numpy of its only chunk, and to_pylist, give.
# Seen: the last category. A table with unknown classes so becomes one without, and nothing is said.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet pyarrow==26.0.1 numpy==2.4.6
"$folder/env/bin/python" - <<'PYTHON'
import pyarrow

column = pyarrow.chunked_array([pyarrow.array(["a", "b", None]).dictionary_encode()])
chunk = column.chunk(0).to_numpy(zero_copy_only=False).tolist()
whole = column.to_numpy().tolist()
print("chunk", chunk, "list", column.to_pylist(), "ChunkedArray.to_numpy", whole)
assert chunk == column.to_pylist() == ["a", "b", None]
assert whole == ["a", "b", "b"]
PYTHON
