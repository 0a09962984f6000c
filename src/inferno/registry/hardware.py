"""What this machine can compute with, as far as it can be seen without loading a GPU's libraries.

NVIDIA's cards are asked for through `nvidia-smi`, AMD's are looked up in Linux' `/sys`.
"""

from __future__ import annotations

import asyncio
import contextlib
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

MIB = 2**20
SECONDS = 10.0
"""How long `nvidia-smi` may take; it wakes cards that sleep."""

NVIDIA = ("--query-gpu=index,uuid,memory.total,name", "--format=csv,noheader,nounits")
CARDS = Path("/sys/class/drm")
AMD = "0x1002"
"""AMD's number among vendors of PCI devices."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A card, or a part of one that counts as one."""

    name: str
    memory_bytes: int


async def seen(environment: Mapping[str, str], *, cards: Path = CARDS) -> dict[str, Any]:
    """Return what this machine has: cores, memory, GPUs.

    Args:
        environment: `CUDA_VISIBLE_DEVICES` leaves out NVIDIA's cards that are for others.
        cards: where Linux shows graphics cards.
    """
    gpus = [*await _nvidia(environment), *_amd(cards)]
    return {
        "architecture": platform.machine(),
        "cpu_cores": psutil.cpu_count() or 1,
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": [{"name": gpu.name, "memory_bytes": gpu.memory_bytes} for gpu in gpus],
    }


async def _nvidia(environment: Mapping[str, str]) -> list[Gpu]:
    """Ask NVIDIA's own tool; a machine without one, or one that does not answer, has no card."""
    tool = shutil.which("nvidia-smi", path=environment.get("PATH"))
    if tool is None:
        return []
    pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(
            tool, *NVIDIA, stdin=nothing, stdout=pipe, stderr=nothing
        )
    except OSError:
        return []
    try:
        async with asyncio.timeout(SECONDS):
            output, _ = await process.communicate()
    except TimeoutError:
        return []
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode != 0:
        return []
    return nvidia_cards(output.decode("utf-8", "replace"), environment.get("CUDA_VISIBLE_DEVICES"))


def nvidia_cards(table: str, visible: str | None) -> list[Gpu]:
    """Return the cards in `nvidia-smi`'s table.

    Args:
        table: number, UUID, MiB of memory and name of a card on each line.
        visible: numbers or beginnings of UUIDs of those that are for us; None for all of them.
    """
    wanted = None if visible is None else [one.strip() for one in visible.split(",")]
    found: list[Gpu] = []
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.split(",", 3)]
        if len(cells) < 4:
            continue
        index, uuid, memory, name = cells
        named = wanted is None or any(
            one == index or (len(one) > 4 and uuid.startswith(one)) for one in wanted
        )
        if named:
            found.append(Gpu(name, int(memory) * MIB if memory.isdecimal() else 0))
    return found


def _amd(cards: Path) -> list[Gpu]:
    """Look up AMD's cards; those with a driver say how much memory they have."""
    found: list[Gpu] = []
    for device in sorted(cards.glob("card[0-9]*/device")):
        memory = _text(device / "mem_info_vram_total")
        if _text(device / "vendor") == AMD and memory.isdecimal():
            found.append(Gpu(_text(device / "product_name") or "AMD GPU", int(memory)))
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return ""
