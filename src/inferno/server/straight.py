"""Requests for servers of others that are passed on straight away: without a task.

Whoever's key is known, whose limits have room, and for whom a connection to a server is idle, need
wait for nothing before the request is sent. That is done in the callback that brings the request,
and what comes of the answer goes to the client in the callback that brings it. As soon as something
has to be waited for or goes wrong, a task goes on with the request from where it is
(`passthrough.Passing`); all that is decided about trouble is decided there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from http import HTTPStatus

from starlette.types import Scope

from inferno.core.errors import InfernoError
from inferno.core.inferences import Operation
from inferno.core.tenancy import Permission, Principal
from inferno.gateway.forwarding import Call
from inferno.gateway.upstream import UpstreamResponse
from inferno.server.operation import HANDED_OVER, Services, Visited, served_line
from inferno.server.passthrough import Head, PassedEvents, Passing, as_asked, call_for, read_head
from inferno.server.relay import take_down
from inferno.server.serving import Observed, caller_of
from inferno.tenancy.access import Visit
from inferno.web.cycle import Cycle
from inferno.web.door import Door, encoded, lines_for_all
from inferno.web.exchange import EVENT_STREAM, JSON_TYPE, NAMED

PATHS: dict[str, Operation] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
}
"""What is passed on straight away, and what it is."""

OK: int = HTTPStatus.OK
WHOLE_BYTES = 32 * 1024
"""Of an answer that is not streamed; a task waits for what is larger."""
PRECISE_SECONDS = 2.5
"""Before its time is over a request is given to a task, whose timer is exact."""

JSON_LINES, EVENT_LINES = encoded([JSON_TYPE]), encoded(EVENT_STREAM)

Serve = Callable[[Cycle], None]


class Straight:
    """Passes requests on straight away, where that can be; a `web.protocol.Shortcut`.

    Args:
        services: the platform's.
        door: that other requests go through; it is told of these.
        without: paths that are not passed on straight away.
    """

    def __init__(self, services: Services, door: Door, without: Collection[str] = ()) -> None:
        self.services = services
        self.door = door
        self._paths = {path: kind for path, kind in PATHS.items() if path not in without}

    def wants(self, scope: Scope) -> bool:
        """Return whether a request may be passed on straight away, going by its head."""
        services = self.services
        if (
            scope["path"] not in self._paths
            or scope["method"] != "POST"
            or b"origin" in scope[NAMED]  # pages of other sites are turned away
            or not services.forwarder.routes.any_named
            or not services.access.is_instant
        ):
            return False
        scope["state"]["known"] = principal = services.access.known(scope)
        return principal is not None

    def begin(self, scope: Scope, cycle: Cycle, serve: Serve) -> bool:
        """Pass a request on; False where it has to be served in a task from the beginning."""
        services, state = self.services, self.door.arrive(scope)
        principal: Principal = state["known"]
        path, body = scope["path"], cycle.body
        if services.readiness.draining or len(body) > services.max_body_bytes:
            return False
        try:
            head = read_head(body)
            caller = caller_of(scope, principal)
            services.forwarder.loops.check(caller.via)
            destination = services.forwarder.routes.choose(head.model, caller)
            if not (destination.is_relayed and _is_allowed(principal, head)):
                return False
            call = call_for(
                head, body, path.encode("ascii"), destination, services, state["request_id"]
            )
            visit = services.access.enter_now(scope, principal)
            services.access.reserve_now(visit, call.tally)
        except InfernoError:
            return False  # whoever serves it finds the same, and says so
        state["operation"] = path
        streamed = bool(head.stream)
        work = Observed(services, scope, visit, [call], self._paths[path], streamed=streamed)
        Passage(self, scope, cycle, serve, visit, call, head, work).begin()
        return True


def _is_allowed(principal: Principal, head: Head) -> bool:
    permissions = principal.permissions
    return Permission.RUN_INFERENCE in permissions and (
        not head.stream or Permission.USE_STREAMING in permissions
    )


class Passage:
    """One request that is passed on straight away; a `web.cycle.Passage`.

    Args:
        straight: whose.
        scope: of the request.
        cycle: the request and its response.
        serve: lets a task go on with it.
        visit: who sent it.
        call: what is passed on.
        head: what was read of it.
        work: whose observers are told how it went.
    """

    __slots__ = ("_call", "_cycle", "_events", "_head", "_opening", "_passing", "_response",
                 "_scope", "_serve", "_straight", "_work", "visit")  # fmt: skip

    def __init__(
        self,
        straight: Straight,
        scope: Scope,
        cycle: Cycle,
        serve: Serve,
        visit: Visit,
        call: Call,
        head: Head,
        work: Observed,
    ) -> None:
        self._straight = straight
        self._scope = scope
        self._cycle = cycle
        self._serve = serve
        self.visit = visit
        self._call = call
        self._head = head
        self._work = work
        self._opening = straight.services.forwarder.open(call)
        self._response: UpstreamResponse | None = None
        self._events: PassedEvents | None = None
        self._passing: Passing | None = None

    def begin(self) -> None:
        """Send the request, or have a task send it."""
        self._cycle.passage = self
        self._work.begin()
        try:
            self._response = response = self._opening.begin()
        except InfernoError as failure:
            self.hand_over(failure)
            return
        if response is None:
            self.hand_over()
        else:
            response.on_news = self._look

    # What happens meanwhile

    def _look(self) -> None:
        """Something of the answer is there, or no more of it will come."""
        response = self._response
        assert response is not None  # noqa: S101 - it is the one that called
        if response.status != OK:
            if response.status or response.has_failed:
                self.hand_over()
            return
        if not self._call.tally.begun:
            self._opening.has_begun()
        if self._head.stream:
            self._pass_events_on(response)
        else:
            self._pass_whole_on(response)

    def _pass_whole_on(self, response: UpstreamResponse) -> None:
        if not response.is_whole:
            if response.has_failed or response.held > WHOLE_BYTES:
                self.hand_over()
            return
        call = self._call
        body = response.take()
        self._opening.end()
        try:
            take_down(call, body)
        except InfernoError as failure:
            self.hand_over(failure)
            return
        body = as_asked(body, call)
        self._begin(JSON_LINES, length=len(body))
        self._cycle.write(body, more=False)
        self._conclude()

    def _pass_events_on(self, response: UpstreamResponse) -> None:
        """Pass on what there is, unless the client takes less than it gets: then it stays there.

        So the server is not read from either, once enough of its answer waits.
        """
        if self._cycle.is_full:
            return
        events = self._events
        if events is None:
            events = self._events = PassedEvents(self._call, self._head)
        passed = b""
        if piece := response.take():
            try:
                passed = events.feed(piece)
            except InfernoError as failure:
                self.hand_over(failure)
                return
        is_over = events.done and response.is_whole
        if passed or is_over:
            if not self._cycle.response_started:
                self._begin(EVENT_LINES, length=None)
            self._cycle.write(passed, more=not is_over)
        if is_over:
            self._opening.end()
            self._conclude()
        elif response.is_whole or response.has_failed:
            self.hand_over()
        else:
            response.expect_more()

    def _begin(self, lines: bytes, *, length: int | None) -> None:
        state = self._scope["state"]
        state["status"] = OK
        lines = lines + served_line(self._call.journey) + lines_for_all(state)
        self._cycle.begin(OK, lines, length=length)

    def writable(self) -> None:
        """The client takes more again: what waits for it may go out."""
        self._look()

    def expire(self, now: float) -> None:
        """Have a task see to it that the request ends in time."""
        del now
        if self._opening.seconds_left < PRECISE_SECONDS:
            self.hand_over()

    # How it ends

    def left(self) -> None:
        """The client has gone: hang up on the server."""
        self._let_go()
        self._opening.end()
        self._work.tell("success" if self._is_done else "cancelled")
        self._straight.door.note_departure(self._scope)
        self._settle()

    @property
    def _is_done(self) -> bool:
        return self._events is not None and self._events.done

    def _conclude(self) -> None:
        """The client has all of its answer."""
        self._let_go()
        self._work.tell("success")
        self._settle()

    def _settle(self) -> None:
        self._straight.services.access.leave_now(self.visit)
        self._straight.door.depart(self._scope, self._scope["state"].get("status", 0))
        self._cycle.let_go()

    def hand_over(self, failure: InfernoError | None = None) -> None:
        """Have a task go on from here.

        Args:
            failure: why no more of the answer will come.
        """
        self._let_go()
        if failure is not None:
            self._opening.end()
        self._passing = Passing(
            self._call,
            self._head,
            self._work,
            opening=self._opening,
            events=self._events,
            failure=failure,
        )
        self._scope["state"][HANDED_OVER] = self
        self._serve(self._cycle)

    def _let_go(self) -> None:
        """Be told of nothing any more."""
        self._cycle.passage = None
        if self._response is not None:
            self._response.on_news = None

    async def go_on(self, exchange: Visited, services: Services) -> None:
        """Serve the rest of the request, in a task."""
        assert self._passing is not None  # noqa: S101 - it was handed over
        exchange.routed = self._call.journey
        exchange.started = "status" in self._scope["state"]
        exchange.whole = self._is_done
        self._work.exchange = exchange
        try:
            await self._passing.go_through(exchange, services)
        finally:
            self._opening.end()  # for a client that left before the task began
