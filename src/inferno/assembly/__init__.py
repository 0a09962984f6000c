"""The composition root: `Settings` in, a running platform out. Read this first.

process        the process: checks, event loop, signals
platform       both planes and all that they stand on, wired by constructor
way_in         who is let in: identity, limits, audit
data_plane     the gateway and what handlers call; what is counted, measured and traced
replicas       controllers and the runtime
listening      the sockets: HTTP, TLS, WebSockets, hosts, origins
"""

from __future__ import annotations

from inferno.assembly.platform import Sockets, platform
from inferno.assembly.process import serve

__all__ = ["Sockets", "platform", "serve"]
