"""Replicas that an earlier run of the platform left behind."""

from __future__ import annotations

import contextlib

import psutil

_MARK = "inferno.engines"
_PATIENCE = 5.0  # seconds for the kernel to take a killed process away


def kill_leftover(pid: int, uid: str) -> bool:
    """Kill a process if it is the replica of a pod; blocks until it is gone.

    Process ids are used again, so the command line has to name an engine of ours and the pod.

    Args:
        pid: what the pod's status says.
        uid: of the pod.

    Returns:
        Whether there was something to kill.
    """
    try:
        process = psutil.Process(pid)
        arguments = process.cmdline()
        if uid not in arguments or not any(_MARK in argument for argument in arguments):
            return False
        process.kill()
    except psutil.Error:
        return False
    with contextlib.suppress(psutil.TimeoutExpired):
        process.wait(_PATIENCE)
    return True
