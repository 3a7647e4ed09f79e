#!/usr/bin/env bash
# pooch 1.9.0 with requests 2.34.2: a published .gz file from a server that labels it "Content-Encoding: gzip".
#
# Web servers send this header for .gz files where they are set up for pages that are compressed beforehand. curl -O, wget and
# urllib keep the bytes of the file.
# Expected: the file as it was published, so that its published SHA-256 holds.
# Seen: pooch.retrieve stores the decompressed content under the name of the .gz file. With the published hash it raises ValueError
# ("... does not match the known hash"), although the server sent the right bytes; with known_hash=None it stores the wrong file
# without a word. HTTPDownloader reads the body by requests' iter_content, which undoes the encoding.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet pooch==1.9.0 requests==2.34.2
"$folder/env/bin/python" - "$folder" <<'PYTHON'
import gzip
import hashlib
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pooch

CONTENT = gzip.compress(b"0123456789" * 100, mtime=0)
PUBLISHED = hashlib.sha256(CONTENT).hexdigest()


class Server(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT)

    def log_message(self, *arguments):
        pass


server = HTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/images.gz"
with urllib.request.urlopen(url) as answer:
    assert answer.read() == CONTENT
path = pooch.retrieve(url, known_hash=None, fname="images.gz", path=Path(sys.argv[1]) / "any")
stored = Path(path).read_bytes()
print(f"sent {len(CONTENT)} bytes, stored {len(stored)}")
assert stored == gzip.decompress(CONTENT)
try:
    pooch.retrieve(url, known_hash=f"sha256:{PUBLISHED}", fname="images.gz", path=Path(sys.argv[1]) / "checked")
except ValueError as error:
    print("with the published hash:", "does not match the known hash" in str(error))
else:
    sys.exit("pooch kept the published bytes")
PYTHON
