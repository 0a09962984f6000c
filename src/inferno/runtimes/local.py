"""Replicas as child processes of the platform, on this machine's loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import structlog

from inferno.core.errors import Expired, InfernoError, NotFound
from inferno.core.resources import RUNTIME_FINALIZER, SUSPECTED_ANNOTATION, Pod, PodStatus
from inferno.engines.base import Adapter, Engine, Launch
from inferno.runtimes.keys import replica_key
from inferno.runtimes.leftovers import kill_leftover
from inferno.runtimes.logs import ReplicaLog
from inferno.runtimes.model_files import local_file
from inferno.runtimes.replica import Replica, Timings, failed, write_status
from inferno.storage.base import ResourceStore
from inferno.storage.outage import Outage

_log = structlog.get_logger(__name__)

_PAUSE = 1.0  # seconds before the store is asked again after an error
_FOLLOW_INTERVAL = 0.25  # seconds between looks for new log lines


class LocalRuntime:
    """A kubelet for one machine: every pod in the store is a process here.

    Level-triggered: it compares the pods in the store with the replicas it runs, whenever
    something changes and whenever it may have missed something.

    Args:
        store: holds the pods.
        engine: finds an engine by name; raises an `InfernoError` for an unknown one.
        secret: of the platform; replica keys are derived from it.
        data_dir: logs go to `logs/replicas` in it.
        locate: turns a model's `storageUri` into a file here, or raises an `InfernoError`.
        max_in_flight: requests that may be open at once in one replica; None for the engine's
            default.
        timings: how long to wait for what.
    """

    def __init__(
        self,
        store: ResourceStore,
        *,
        engine: Callable[[str], Engine],
        secret: bytes,
        data_dir: Path,
        locate: Callable[[str], Path] = local_file,
        max_in_flight: int | None = None,
        timings: Timings | None = None,
    ) -> None:
        self._store = store
        self._engine = engine
        self._secret = secret
        self._logs = data_dir / "logs" / "replicas"
        self._locate = locate
        self._max_in_flight = max_in_flight
        self._timings = timings or Timings()
        self._replicas: dict[str, Replica] = {}  # by the pod's uid
        self._stopping = False
        self._outage = Outage(_log)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; then drain all replicas and return when none is left.

        Cancelling kills the replicas. Runs once.
        """
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(self._follow_pods(tasks))
            await stop.wait()
            self._stopping = True
            watching.cancel()
            for replica in self._replicas.values():
                replica.stop()

    async def log(
        self, pod: str, *, tail: int | None = None, follow: bool = False
    ) -> AsyncIterator[str]:
        """Yield lines of a replica's log, without line ends. See `Runtime.log`."""
        log = self._log_of(pod)
        if not log.exists():
            raise NotFound(f"There is no log of a replica named '{pod}'.")
        lines, offset = await asyncio.to_thread(log.lines, tail)
        for line in lines:
            yield line
        while follow:
            await asyncio.sleep(_FOLLOW_INTERVAL)
            try:
                lines, offset = await asyncio.to_thread(log.more, offset)
            except FileNotFoundError:
                return
            for line in lines:
                yield line

    async def _follow_pods(self, tasks: asyncio.TaskGroup) -> None:
        """Clean up once, then act on every pod that changes; never ends by itself."""
        is_clean = False
        while True:
            try:
                if not is_clean:
                    await self._clean_up()
                    is_clean = True
                await self._follow_once(tasks)
            except Expired:
                continue
            except Exception as error:  # replicas go on meanwhile
                if not self._outage.explains(error):
                    _log.exception("runtime_lost_the_store")
            await asyncio.sleep(_PAUSE)

    async def _follow_once(self, tasks: asyncio.TaskGroup) -> None:
        """Compare with a list of all pods, then follow their changes from there."""
        pods, version = await self._store.list(Pod)
        self._outage.over()
        wanted = {pod.metadata.uid for pod in pods}
        for uid, replica in self._replicas.items():
            if uid not in wanted:
                replica.stop()
        for pod in pods:
            await self._sync(pod, tasks)
        async for event in self._store.watch(Pod, since=version):
            if event.type == "DELETED":
                self._stop(event.resource)
            else:
                await self._sync(event.resource, tasks)

    async def _sync(self, pod: Pod, tasks: asyncio.TaskGroup) -> None:
        """Start or stop the pod's replica if that is what the pod asks for."""
        uid = pod.metadata.uid
        if pod.metadata.deletion_timestamp is not None:
            if uid in self._replicas:
                self._stop(pod)
            else:
                await self._release(pod)
        elif uid in self._replicas:
            self._replicas[uid].suspect(pod.metadata.annotations.get(SUSPECTED_ANNOTATION, ""))
        elif pod.status.phase != "Failed":
            await self._start(pod, tasks)

    async def _start(self, pod: Pod, tasks: asyncio.TaskGroup) -> None:
        """Make sure that the pod waits for us when it is deleted, then run its replica."""
        if RUNTIME_FINALIZER not in pod.metadata.finalizers:
            try:
                await self._edit_finalizers(pod, present=True)
            except NotFound:
                return
        try:
            replica = self._make_replica(pod)
        except InfernoError as error:
            pod.status = failed(error)
            await write_status(self._store, pod)
            return
        self._replicas[pod.metadata.uid] = replica
        tasks.create_task(self._run_replica(replica))

    def _make_replica(self, pod: Pod) -> Replica:
        """Put a replica together. Raises an InfernoError for a pod that cannot run here."""
        model, uid = pod.spec.model, pod.metadata.uid
        launch = Launch(
            uid=uid,
            served_name=pod.spec.service,
            model_path=self._locate(model.storage_uri),
            key=replica_key(self._secret, uid),
            options=model.options,
            max_in_flight=self._max_in_flight,
            grace=self._timings.grace,
            adapters=tuple(Adapter(a.name, self._locate(a.uri)) for a in model.lora.adapters),
        )
        engine, log = self._engine(pod.spec.engine), self._log_of(pod.metadata.name)
        return Replica(pod, engine, launch, log, self._store, self._timings, outage=self._outage)

    def _stop(self, pod: Pod) -> None:
        """Ask the pod's replica to end, if there is one."""
        if replica := self._replicas.get(pod.metadata.uid):
            replica.pod.metadata = pod.metadata
            replica.stop()

    async def _run_replica(self, replica: Replica) -> None:
        """Run a replica to its end, whatever goes wrong around it, then settle its pod."""
        while True:
            try:
                await replica.run()
                break
            except Exception:  # its process is gone; the next round starts another one
                _log.exception("replica_abandoned", pod=replica.pod.metadata.name)
                await asyncio.sleep(_PAUSE)
        del self._replicas[replica.pod.metadata.uid]
        try:
            await self._settle(replica.pod)
        except Exception as error:  # cleaned up at the next start
            if not self._outage.explains(error):
                _log.exception("pod_not_settled", pod=replica.pod.metadata.name)

    async def _settle(self, pod: Pod) -> None:
        """Let a deleted pod go; one that outlives the platform waits for its next start."""
        if self._stopping and pod.metadata.deletion_timestamp is None:
            pod.status = PodStatus()
            await write_status(self._store, pod)
        else:
            await self._release(pod)

    async def _release(self, pod: Pod) -> None:
        """Remove what is left of a deleted pod."""
        self._log_of(pod.metadata.name).remove()
        try:
            await self._edit_finalizers(pod, present=False)
        except NotFound:
            return

    async def _edit_finalizers(self, pod: Pod, *, present: bool) -> None:
        """Put our finalizer on the pod or take it off. Raises NotFound."""

        def change(stored: Pod) -> None:
            if stored.metadata.uid != pod.metadata.uid:
                raise NotFound("The pod is gone.")
            others = [name for name in stored.metadata.finalizers if name != RUNTIME_FINALIZER]
            stored.metadata.finalizers = [*others, RUNTIME_FINALIZER] if present else others

        await self._store.modify(Pod, pod.metadata.name, change, namespace=pod.metadata.namespace)

    async def _clean_up(self) -> None:
        """Kill what an earlier run left running and let every pod start afresh."""
        pods, _ = await self._store.list(Pod)
        for pod in pods:
            pid = pod.status.pid
            if pid and await asyncio.to_thread(kill_leftover, pid, pod.metadata.uid):
                _log.warning("leftover_killed", pod=pod.metadata.name, pid=pid)
            if pod.status != PodStatus():
                pod.status = PodStatus()
                await write_status(self._store, pod)

    def _log_of(self, pod: str) -> ReplicaLog:
        """Return the log of a pod; names of resources cannot leave the folder."""
        return ReplicaLog(self._logs / f"{pod}.log")
