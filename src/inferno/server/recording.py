"""Writing into the audit trail what a caller has done."""

from __future__ import annotations

from typing import Any

from inferno.server.operation import Services, Visited
from inferno.telemetry.audit import AuditEvent


async def record(
    exchange: Visited, services: Services, action: str, target: str, **details: Any
) -> None:
    """Record an act that has been done, before its doer is told."""
    visit = exchange.visit
    await services.access.audit.append(
        AuditEvent(
            action=action,
            outcome="success",
            actor=visit.principal.username,
            actor_id=visit.principal.user_id,
            tenant=visit.principal.tenant,
            target=target,
            address=visit.address,
            request_id=exchange.request_id,
            details=details,
        )
    )
