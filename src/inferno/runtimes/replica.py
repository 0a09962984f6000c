"""One replica: keeps its process alive, tells the store how it is, and drains it in the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import psutil
import structlog

from inferno.core.errors import InfernoError, NotFound
from inferno.core.resources import SUSPECTED_ANNOTATION, Pod, PodStatus
from inferno.engines.base import Engine, Failure, Launch, ReadyEvent
from inferno.runtimes.logs import ReplicaLog
from inferno.runtimes.process import ReplicaProcess
from inferno.runtimes.restarts import History, RestartPolicy, restart_delay
from inferno.storage.base import ResourceStore
from inferno.storage.outage import Outage

_log = structlog.get_logger(__name__)

_HOST = "127.0.0.1"
_LIVENESS = ("Unresponsive", "Wedged")  # ended by us: no crash
_REPORT_INTERVAL = 1.0  # seconds between attempts to write a status while nothing else happens


@dataclass(frozen=True, slots=True)
class Timings:
    """How long the runtime waits for what, in seconds.

    Args:
        grace: running requests get this long when a replica stops.
        load: a model may take this long to load.
        probe_interval: between health checks.
        probe_timeout: for one health check.
        probe_failures: checks in a row (a count) after which a replica counts as hung.
        work_timeout: for a replica whose streams fell silent to show that it works nevertheless.
        restarts: delays between restarts.
    """

    grace: float = 30.0
    load: float = 900.0
    probe_interval: float = 5.0
    probe_timeout: float = 2.0
    probe_failures: int = 3
    work_timeout: float = 30.0
    restarts: RestartPolicy = field(default_factory=RestartPolicy)


class Replica:
    """Runs one pod. `run` returns after `stop` was called and the process is gone.

    Args:
        pod: as it was when the replica was made; its spec does not change.
        engine: runs the model.
        launch: what the engine runs.
        log: of the replica.
        store: where the status is written.
        timings: how patient to be.
        outage: of the store, as the runtime sees it.
    """

    def __init__(
        self,
        pod: Pod,
        engine: Engine,
        launch: Launch,
        log: ReplicaLog,
        store: ResourceStore,
        timings: Timings,
        *,
        outage: Outage,
    ) -> None:
        self.pod = pod
        self._engine = engine
        self._launch = launch
        self._output = log
        self._store = store
        self._timings = timings
        self._outage = outage
        self._stopping = asyncio.Event()
        self._history = History()
        self._served: float | None = None
        self._is_unreported = False
        self._suspected_at = pod.metadata.annotations.get(SUSPECTED_ANNOTATION, "")
        self._suspected = asyncio.Event()
        self._adapter_problems: dict[str, str] = {}
        self._log = _log.bind(pod=pod.metadata.name, service=pod.spec.service)

    def stop(self) -> None:
        """Ask the replica to drain and end."""
        self._stopping.set()

    def suspect(self, at: str) -> None:
        """Take in that a stream fell silent; a time that was heard of before changes nothing."""
        if at > self._suspected_at:
            self._suspected_at = at
            self._suspected.set()

    async def run(self) -> None:
        """Keep the process running until `stop`. Cancelling kills the process."""
        while not self._stopping.is_set():
            failure = await self._run_process()
            if failure is None:
                return
            if failure.adapter:
                self._do_without(failure)
                continue
            served, policy = self._served, self._timings.restarts
            self._history = self._history.after_failure(served=served, policy=policy)
            delay = restart_delay(self._history, failure, policy)
            self._log.warning(
                "replica_failed",
                reason=failure.reason,
                message=failure.message,
                restart_in_seconds=delay,
            )
            await self._report_failure(failure, gave_up=delay is None)
            await self._pause(delay)

    def _do_without(self, failure: Failure) -> None:
        """Leave an adapter out that cannot be loaded: the model serves without it."""
        left = tuple(one for one in self._launch.adapters if one.name != failure.adapter)
        self._launch = replace(self._launch, adapters=left)
        self._adapter_problems[failure.adapter] = failure.message
        self._log.warning("adapter_unusable", adapter=failure.adapter, message=failure.message)

    async def _pause(self, seconds: float | None) -> None:
        """Wait before the next start; None: until the end, making sure that the store knows."""
        while seconds is None and self._is_unreported and not self._stopping.is_set():
            await self._unless_stopped(asyncio.sleep(_REPORT_INTERVAL), within=None)
            await self._publish()
        await self._unless_stopped(self._stopping.wait(), within=seconds)

    async def _run_process(self) -> Failure | None:
        """Start the program once; returns why it ended, or None when it was stopped."""
        self._served = None
        process = ReplicaProcess(self._engine, self._launch, self._output)
        try:
            began = time.monotonic()
            await process.start()
            await self._report_starting(process)
            failure = await self._load(process, began) or await self._serve(process)
            if failure is None:
                await self._drain(process)
            return failure
        except OSError as error:
            return Failure("EngineMissing", f"The engine cannot be started: {error.strerror}.")
        finally:
            process.kill()
            if process.pid:
                await process.wait_exit()

    async def _load(self, process: ReplicaProcess, began: float) -> Failure | None:
        """Wait until the program serves."""
        ready: list[ReadyEvent | None] = []

        async def wait() -> None:
            ready.append(await process.wait_ready())

        await self._unless_stopped(wait(), within=self._timings.load)
        if self._stopping.is_set():
            return None
        if not ready:
            return Failure("LoadTimeout", "The model took too long to load.")
        if ready[0] is None:
            return process.diagnose()
        await self._report_ready(process, ready[0], time.monotonic() - began)
        return None

    async def _serve(self, process: ReplicaProcess) -> Failure | None:
        """Watch a serving process; returns why it ended, or None when it is to be stopped."""
        ready_at = time.monotonic()
        missed = 0
        self._suspected.clear()  # that was the process before this one
        while not self._stopping.is_set():
            interval = self._timings.probe_interval
            if await self._unless_stopped(
                process.wait_exit(), within=interval, or_when=self._suspected
            ):
                self._served = time.monotonic() - ready_at
                return process.diagnose()
            if self._stopping.is_set():
                break
            if self._suspected.is_set():
                failure = await self._confirmed(process)
                if failure is not None:
                    self._served = time.monotonic() - ready_at
                    return failure
                continue
            missed = 0 if await self._probe() else missed + 1
            if missed >= self._timings.probe_failures:
                self._served = time.monotonic() - ready_at
                return Failure("Unresponsive", "The replica stopped answering health checks.")
            if self._is_unreported:
                await self._publish()
            await asyncio.to_thread(self._output.rotate)
        return None

    async def _confirmed(self, process: ReplicaProcess) -> Failure | None:
        """Look whether a replica whose streams fell silent works; returns why not."""
        self._suspected.clear()
        status, timings = self.pod.status, self._timings
        if await self._engine.works(
            _HOST, status.port, self._launch.key, within=timings.work_timeout
        ):
            self._log.info("replica_works", suspected_at=self._suspected_at)
            return None
        if await self._unless_stopped(process.wait_exit(), within=0.1):
            return process.diagnose()
        if self._stopping.is_set():
            return None
        return Failure(
            "Wedged",
            "The replica's streams fell silent, and its engine does not work on anything any more.",
        )

    async def _probe(self) -> bool:
        """Check the health of the process."""
        return await self._engine.probe(
            _HOST, self.pod.status.port, within=self._timings.probe_timeout
        )

    async def _drain(self, process: ReplicaProcess) -> None:
        """Take the replica out of rotation, then end it."""
        await self._report(lambda status: _set(status, phase="Draining"))
        await process.stop(self._timings.grace)
        self._log.info("replica_stopped")

    async def _unless_stopped(
        self,
        work: Coroutine[Any, Any, Any],
        within: float | None,
        or_when: asyncio.Event | None = None,
    ) -> bool:
        """Wait for `work` until the replica is to stop or `within` seconds passed.

        Args:
            work: what to wait for.
            within: seconds; None for as long as it takes.
            or_when: ends the wait too.

        Returns:
            Whether the work was done; what is not done is cancelled.
        """
        task = asyncio.ensure_future(work)
        events = [self._stopping] if or_when is None else [self._stopping, or_when]
        waits = [task, *(asyncio.ensure_future(event.wait()) for event in events)]
        try:
            await asyncio.wait(waits, timeout=within, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
            return task.done()
        finally:
            for one in waits:
                one.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _report_starting(self, process: ReplicaProcess) -> None:
        self._log.info("replica_starting", pid=process.pid)
        status = PodStatus(
            phase="Starting",
            restarts=self.pod.status.restarts,
            pid=process.pid,
            started_at=_now(),
        )
        await self._report(lambda _: status)

    async def _report_ready(
        self, process: ReplicaProcess, event: ReadyEvent, seconds: float
    ) -> None:
        self._log.info("replica_ready", pid=process.pid, port=event.port, seconds=round(seconds, 3))
        memory = _resident_memory(process.pid)
        problems = self._adapter_problems
        await self._report(
            lambda status: _set(
                status,
                phase="Ready",
                host=_HOST,
                port=event.port,
                ready_at=_now(),
                load_time_ms=round(seconds * 1000),
                memory_bytes=memory,
                context_size=event.context_size,
                parallel=event.parallel,
                capabilities=event.capabilities,
                adapters=[adapter.name for adapter in self._launch.adapters],
                adapter_problems=dict(problems),
                reason="AdapterUnusable" if problems else "",
                message=" ".join(problems.values()),
            )
        )

    async def _report_failure(self, failure: Failure, *, gave_up: bool) -> None:
        restarts = self.pod.status.restarts
        status = PodStatus(
            phase="Failed" if gave_up else "Pending",
            reason=failure.reason if gave_up or failure.reason in _LIVENESS else "CrashLoopBackOff",
            message=failure.message,
            restarts=restarts if gave_up else restarts + 1,
        )
        await self._report(lambda _: status)

    async def _report(self, change: Callable[[PodStatus], PodStatus]) -> None:
        """Change the status and have the store know."""
        self.pod.status = change(self.pod.status)
        await self._publish()

    async def _publish(self) -> None:
        """Write the status; replicas go on serving while the store is away."""
        try:
            await write_status(self._store, self.pod)
            self._is_unreported = False
            self._outage.over()
        except Exception as error:
            self._is_unreported = True
            if not self._outage.explains(error):
                self._log.exception("status_not_written", phase=self.pod.status.phase)


async def write_status(store: ResourceStore, pod: Pod) -> bool:
    """Write a pod's status unless the pod is gone; tells whether it was written."""

    def change(stored: Pod) -> None:
        if stored.metadata.uid != pod.metadata.uid:
            raise NotFound("The pod is gone.")
        stored.status = pod.status

    metadata = pod.metadata
    try:
        await store.modify(Pod, metadata.name, change, namespace=metadata.namespace, status=True)
    except NotFound:
        return False
    return True


def failed(error: InfernoError) -> PodStatus:
    """Return the status of a pod that cannot even be tried."""
    return PodStatus(phase="Failed", reason="Unusable", message=error.message)


def _set(status: PodStatus, **changes: Any) -> PodStatus:
    """Return a copy of the status with some fields changed."""
    fields = {name: getattr(status, name) for name in status.__struct_fields__}
    return PodStatus(**(fields | changes))


def _resident_memory(pid: int) -> int:
    """Measure resident memory, mapped weights included, in bytes; 0 when the process is gone."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def _now() -> str:
    """Return the time as RFC 3339, in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
