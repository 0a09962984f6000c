"""The engine's own server with nothing around it: `bare_server MODEL` prints its port."""

from __future__ import annotations

import signal
import sys

import xllamacpp

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.hostnames = ["127.0.0.1"]
params.port = 0
params.ui = False
params.use_jinja = True
params.n_parallel = 4
params.n_ctx = 4 * 2048
server = xllamacpp.Server(params)
print(server.listening_address.rpartition(":")[2], flush=True)
signal.pause()
