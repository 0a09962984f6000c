"""Routing: from the model that a request names to where it goes, and how much it matters.

A name is looked up in the caller's reach: what its tenant's namespace calls so, then what the
shared namespace does, then the models that the platform serves under their own names.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from inferno.core.errors import InvalidRequest, ModelNotFound
from inferno.core.resources import DEFAULT_NAMESPACE
from inferno.core.target_split import TargetSplit
from inferno.gateway.directory import Directory
from inferno.gateway.following import split_place
from inferno.gateway.lines import Line
from inferno.gateway.picking import Want


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as far as it decides where a request goes.

    Args:
        tenant: whose the request is; its namespace is searched first.
        session: requests of one session go to the same target, and to the same endpoint where
            that can be; empty for none.
        objective: the InferenceObjective that says how much it matters; empty for the model's own.
        fairness: splits a tenant's requests into flows of their own; empty for one flow.
        only: endpoints that it may go to, as `host:port`; None for any.
        via: the gateways that it came through (`Via`); empty for none.
    """

    tenant: str = DEFAULT_NAMESPACE
    session: str = ""
    objective: str = ""
    fairness: str = ""
    only: frozenset[str] | None = None
    via: str = ""


@lru_cache(maxsize=4096)
def anybody_of(tenant: str) -> Caller:
    """Return a caller of whom only the tenant is known, as nearly all are."""
    return Caller(tenant)


@dataclass(frozen=True, slots=True)
class Route:
    """Where requests for a name go.

    Args:
        name: what clients ask for.
        line: of the model, or of the pool.
        split: between target models; None where there is only the name itself.
        priority: of its requests.
        service: the model of ours that is loaded when nobody can answer; empty for pools.
        pool: `namespace/name`; empty for a model of ours under its own name.
        loadable: places of models of ours whose replicas the pool finds, by name; those of LoRA
            adapters are their models'.
        exact: whether a target has to be had by its name: another model must not answer for it.
    """

    name: str
    line: Line
    split: TargetSplit | None = None
    priority: int = 0
    service: str = ""
    pool: str = ""
    loadable: Mapping[str, str] = field(default_factory=dict)
    exact: bool = False


@dataclass(slots=True)
class Destination:
    """Where one request goes.

    Args:
        route: of its model.
        target: the name that the endpoint knows the model by.
        priority: of the request.
        caller: who asks.
        prompt: its text, where it matters how it begins.
    """

    route: Route
    target: str
    priority: int
    caller: Caller
    prompt: bytes = field(default=b"", repr=False)

    @property
    def is_relayed(self) -> bool:
        """Whether requests and answers are passed through as they are.

        Replicas of ours are spoken to in our own way: asked to stream, with their answers joined.
        """
        route = self.route
        return bool(route.pool) and not route.loadable and route.line.is_remote

    @property
    def service(self) -> str:
        """The place of the model of ours that is loaded when nobody can answer; empty for none.

        Where a pool has nothing but one kind of replicas of ours, they answer for any target;
        else a target that names no model of ours is for endpoints of others that have it.
        """
        route = self.route
        if route.service or not route.loadable:
            return route.service
        named = route.loadable.get(self.target, "")
        return named or ("" if route.exact else next(iter(route.loadable.values())))

    def want(self) -> Want:
        """Return what a call of the request wants of an endpoint."""
        caller = self.caller
        flow = f"{caller.tenant}/{caller.fairness}" if caller.fairness else caller.tenant
        route = self.route
        known = not route.loadable or self.target in route.loadable
        named = route.exact or (route.pool and known)
        return Want(
            priority=self.priority,
            flow=flow,
            model=self.target if named else "",
            prompt=self.prompt,
            session=caller.session,
            only=caller.only,
            tenant=caller.tenant,
            block=self.target,
        )


RouteKey = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, slots=True)
class Objective:
    """What requests can name to matter more, or less.

    Args:
        priority: of such requests.
        pool: whose requests may name it, in the objective's own namespace.
    """

    priority: int
    pool: str


class Routes:
    """The table of routes.

    Args:
        directory: the models that the platform serves under their own names.
        named: routes by namespace and name; somebody else keeps them.
        objectives: by namespace and name, likewise.
    """

    def __init__(
        self,
        directory: Directory,
        named: Mapping[RouteKey, Route],
        objectives: Mapping[RouteKey, Objective],
    ) -> None:
        self._directory = directory
        self._named = named
        self._objectives = objectives

    @property
    def any_named(self) -> bool:
        """Whether there are routes besides those of models of ours."""
        return bool(self._named)

    def find(self, model: str, tenant: str) -> Route:
        """Return the route of a name in a tenant's reach.

        Raises:
            ModelNotFound: there is none.
        """
        if self._named:
            for namespace in (tenant, DEFAULT_NAMESPACE):
                route = self._named.get((namespace, model))
                if route is not None:
                    return route
        directory = self._directory
        try:
            place = directory.place(model, tenant)
        except ModelNotFound as error:
            base = directory.place_of_adapter(model, tenant)
            if base is not None:
                return Route(model, directory.line(base), service=base, exact=True)
            own = {*self.names(tenant), *directory.adapter_names(tenant)}
            known = {*error.details["available_models"], *own}
            raise ModelNotFound(model, sorted(known)) from None
        return Route(model, directory.line(place), service=place)

    def outlook(self, model: str, tenant: str) -> tuple[str, bool]:
        """Return what a name's requests wait for, and whether any endpoint can take them now.

        A model that could not be loaded counts as there: its requests are answered at once.

        Raises:
            ModelNotFound: there is nothing of that name.
        """
        route = self.find(model, tenant)
        targets = [model] if route.split is None else [name for name, _ in route.split.weights]
        places = [Destination(route, target, route.priority, Caller()) for target in targets]
        is_there = not places or any(
            route.line.any_fit(place.want())
            or (place.service and self._directory.load_failure(place.service) is not None)
            for place in places
        )
        return f"{route.line.model}/{model}", is_there

    def names(self, tenant: str) -> list[str]:
        """Return the names in a tenant's reach, besides those of models of ours."""
        reach = (tenant, DEFAULT_NAMESPACE)
        return sorted({name for namespace, name in self._named if namespace in reach})

    def choose(self, model: str, caller: Caller) -> Destination:
        """Return where a request goes.

        Raises:
            ModelNotFound: nothing of that name.
            NoValidTarget: the name is reserved.
            InvalidRequest: there is no such objective.
        """
        route = self.find(model, caller.tenant)
        target = model
        if route.split is not None:
            target = (
                route.split.for_session(caller.session)
                if caller.session
                else route.split.at(random.random())  # noqa: S311 - nothing secret
            )
        priority = self._priority(route, caller) if caller.objective else route.priority
        return Destination(route, target, priority, caller)

    def _priority(self, route: Route, caller: Caller) -> int:
        """Return what the objective that a caller names gives a request.

        Whoever may write objectives in its own namespace must not come before others in a line
        that they share: an objective holds for its own pool, and for models of its namespace.
        """
        home, _, pool = route.pool.partition("/")
        if not pool:
            home, _ = split_place(route.service)
        for namespace in (caller.tenant, DEFAULT_NAMESPACE):
            objective = self._objectives.get((namespace, caller.objective))
            if objective is not None and namespace == home and pool in ("", objective.pool):
                return objective.priority
        raise InvalidRequest(
            f"There is no InferenceObjective '{caller.objective}' for model '{route.name}' in the "
            "caller's reach.",
            field="x-gateway-inference-objective",
        )
