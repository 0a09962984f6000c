"""What a machine is seen to have."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from inferno.registry.hardware import MIB, Gpu, nvidia_cards, seen

TABLE = """\
0, GPU-11111111-aaaa, 81559, NVIDIA H100 80GB HBM3
1, GPU-22222222-bbbb, [N/A], NVIDIA GH200, 480GB
nonsense
"""
FIRST = Gpu("NVIDIA H100 80GB HBM3", 81559 * MIB)
SECOND = Gpu("NVIDIA GH200, 480GB", 0)


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, [FIRST, SECOND]),
        ("1", [SECOND]),
        ("0, 1", [FIRST, SECOND]),
        ("GPU-1111", [FIRST]),
        ("", []),
        ("-1", []),
    ],
)
def test_cards_are_those_that_are_for_us(visible: str | None, expected: list[Gpu]) -> None:
    assert nvidia_cards(TABLE, visible) == expected


async def test_cards_of_both_makers(tmp_path: Path) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\ncat <<'END'\n{TABLE}END\n")
    tool.chmod(0o755)
    device = tmp_path / "cards" / "card0" / "device"
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x1002\n")
    (device / "mem_info_vram_total").write_text("17163091968\n")
    other = tmp_path / "cards" / "card1" / "device"
    other.mkdir(parents=True)
    (other / "vendor").write_text("0x8086\n")
    environment = {"PATH": f"{tmp_path}:/bin:/usr/bin", "CUDA_VISIBLE_DEVICES": "0"}
    found = await seen(environment, cards=tmp_path / "cards")
    assert found["gpus"] == [
        {"name": "NVIDIA H100 80GB HBM3", "memory_bytes": 81559 * MIB},
        {"name": "AMD GPU", "memory_bytes": 17163091968},
    ]
    assert found["cpu_cores"] == psutil.cpu_count()


@pytest.mark.parametrize("content", ["#!/bin/sh\nexit 9\n", "no program"])
async def test_a_tool_that_fails_is_no_card(tmp_path: Path, content: str) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(content)
    tool.chmod(0o755)
    found = await seen({"PATH": f"{tmp_path}:/bin:/usr/bin"}, cards=tmp_path)
    assert found["gpus"] == []
