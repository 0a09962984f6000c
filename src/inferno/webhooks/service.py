"""What the inference API is given of webhooks."""

from __future__ import annotations

from dataclasses import dataclass

from inferno.webhooks.deliveries import Deliveries
from inferno.webhooks.outbox import Outbox
from inferno.webhooks.sealing import SecretSealer
from inferno.webhooks.subscriptions import Subscriptions


@dataclass(frozen=True, slots=True)
class Webhooks:
    """The parts of webhooks that others call.

    Args:
        outbox: takes events in.
        subscriptions: who is told of what.
        deliveries: what has become of them.
        sealer: knows the secrets of tenants.
    """

    outbox: Outbox
    subscriptions: Subscriptions
    deliveries: Deliveries
    sealer: SecretSealer

    def secret_of(self, tenant: str) -> str:
        """Return what signs a tenant's deliveries to addresses that nobody subscribed."""
        return self.sealer.secret_of(tenant)
