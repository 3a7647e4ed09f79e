#!/usr/bin/env bash
# scipy 1.11.1 with numpy 1.26.4: connected components of a sparse array with 64-bit indices.
#
# Expected: two components, labels [0 0 0 1 1], as for the same array with 32-bit indices and as scipy 1.11.4 says.
# Seen: connected_components returns 0 components and labels of -9999. It prints "ValueError: Buffer dtype mismatch, expected
# 'ITYPE_t' but got 'long'" as an ignored exception, raises nothing, and the process ends with 0. dijkstra on such an array raises
# the ValueError, also in scipy 1.11.4 to 1.14.1. A csr_array keeps the 64-bit indices that NumPy gives by default, where csr_matrix made them 32-bit.
# scipy 1.15.3 answers both.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet scipy==1.11.1 numpy==1.26.4
cat > "$folder/components.py" <<'PYTHON'
import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

data, indices, indptr = np.ones(3), np.array([1, 2, 4]), np.array([0, 1, 2, 2, 3, 3])
for kind in (np.int32, np.int64):
    graph = csr_array((data, indices.astype(kind), indptr.astype(kind)), shape=(5, 5))
    count, labels = connected_components(graph, connection="weak")
    print(graph.indices.dtype, count, labels.tolist())
PYTHON
seen=$("$folder/env/bin/python" "$folder/components.py" 2> "$folder/stderr")
echo "$seen"
[ "$seen" = "int32 2 [0, 0, 0, 1, 1]
int64 0 [-9999, -9999, -9999, -9999, -9999]" ]
grep -q "Exception ignored" "$folder/stderr"
