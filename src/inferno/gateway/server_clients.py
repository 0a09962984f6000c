"""HTTP clients for model servers that others run: one for each way of speaking TLS."""

from __future__ import annotations

import ssl

import structlog

from inferno.core.model_servers import ServerTLS
from inferno.gateway.upstream import UpstreamClient

log = structlog.get_logger(__name__)

Key = tuple[str, str, bool]


class ServerClients:
    """Makes clients when they are first asked for, and closes them all."""

    def __init__(self) -> None:
        self._clients: dict[Key, UpstreamClient] = {}

    def client(self, tls: ServerTLS | None) -> UpstreamClient | None:
        """Return the client that speaks TLS as a server's spec says; None for no TLS.

        A bundle of authorities that cannot be read trusts nobody.
        """
        if tls is None:
            return None
        key = (tls.server_name, tls.ca_bundle, tls.insecure_skip_verify)
        client = self._clients.get(key)
        if client is None:
            client = UpstreamClient(tls=_context(tls), server_name=tls.server_name or None)
            self._clients[key] = client
        return client

    async def close(self) -> None:
        """Close every connection."""
        for client in self._clients.values():
            await client.close()


def _context(tls: ServerTLS) -> ssl.SSLContext:
    if not tls.ca_bundle:
        context = ssl.create_default_context()
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(cadata=tls.ca_bundle)
        except (ssl.SSLError, ValueError) as error:
            log.warning("ca_bundle_unreadable", error=str(error))
    context.set_alpn_protocols(["http/1.1"])
    if tls.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
