from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from inferno.gateway.prefixes import (
    BLOCK_BYTES,
    LIVE_SECONDS,
    REMEMBERED,
    SPARE_CONTEXTS,
    PrefixIndex,
    blocks_of,
    room_for,
)

PROMPTS = st.lists(st.binary(max_size=5 * BLOCK_BYTES), max_size=20)


@given(st.binary(max_size=1000), st.binary(max_size=1000), st.binary(max_size=1000))
def test_prompts_have_as_many_blocks_in_common_as_they_begin_alike(
    common: bytes, one: bytes, other: bytes
) -> None:
    index = PrefixIndex()
    index.add(blocks_of(common + one), 0.0)
    alike = 0
    for a, b in zip(common + one, common + other, strict=False):
        if a != b:
            break
        alike += 1
    assert index.matching(blocks_of(common + other)) == alike // BLOCK_BYTES


def test_the_same_prompt_for_another_model_is_another_prompt() -> None:
    index = PrefixIndex()
    index.add(blocks_of(b"x" * 999, salt="one"), 0.0)
    assert index.matching(blocks_of(b"x" * 999, salt="other")) == 0
    assert index.matching(blocks_of(b"x" * 999, salt="one")) == 999 // BLOCK_BYTES


@given(PROMPTS, st.integers(1, 20))
def test_no_more_is_remembered_than_there_is_room_for(prompts: list[bytes], room: int) -> None:
    index = PrefixIndex(room)
    for prompt in prompts:
        index.add(blocks_of(prompt), 0.0)
        assert len(index) <= room


@given(PROMPTS, st.binary(min_size=BLOCK_BYTES, max_size=5 * BLOCK_BYTES))
def test_the_latest_prompt_is_known_where_there_is_room_for_it(
    prompts: list[bytes], latest: bytes
) -> None:
    index = PrefixIndex(5)
    for prompt in [*prompts, latest]:
        index.add(blocks_of(prompt), 0.0)
    assert index.matching(blocks_of(latest)) == len(latest) // BLOCK_BYTES


def test_the_end_of_a_prompt_is_forgotten_before_its_beginning() -> None:
    index = PrefixIndex(5)
    old, new = (blocks_of(bytes([n]) * (4 * BLOCK_BYTES)) for n in (1, 2))
    index.add(old, 0.0)
    index.add(new, 0.0)
    assert index.matching(new) == 4
    assert index.matching(old) == 1


@given(PROMPTS, st.binary(max_size=5 * BLOCK_BYTES), st.integers(1, 20))
def test_what_is_displaced_is_said_before(prompts: list[bytes], prompt: bytes, room: int) -> None:
    index = PrefixIndex(room)
    for one in prompts:
        index.add(blocks_of(one), 0.0)
    blocks = blocks_of(prompt)
    new = [block for block in blocks if index.matching([block]) == 0]
    before = len(index)
    displaced = index.displaced(len(new))
    index.add(blocks, 0.0)
    assert len(index) == before + len(new) - displaced


def test_nothing_is_known_after_a_restart() -> None:
    index = PrefixIndex()
    index.add(blocks_of(b"x" * 999), 0.0)
    index.clear()
    assert index.matching(blocks_of(b"x" * 999)) == 0
    assert len(index) == 0


def test_as_much_is_remembered_as_an_engine_keeps() -> None:
    assert room_for(4, 2048) == (4 + SPARE_CONTEXTS) * 2048 * 4 // BLOCK_BYTES
    assert room_for(1, 1) == 1
    assert room_for(100, 0) == REMEMBERED


def test_the_next_turn_of_a_conversation_is_told_from_a_new_one() -> None:
    index = PrefixIndex()
    system, rest = b"s" * (3 * BLOCK_BYTES), b"r" * (2 * BLOCK_BYTES)
    index.add(blocks_of(system + rest), 0.0)
    assert index.goes_on(blocks_of(system + rest + rest))
    assert index.goes_on(blocks_of(system + rest))
    assert not index.goes_on(blocks_of(system + b"another" * 99))
    assert not index.goes_on(blocks_of(b"another" * 99))
    assert not index.goes_on([])


def test_a_conversation_counts_once_until_it_is_over() -> None:
    index = PrefixIndex()
    text = b"t" * BLOCK_BYTES
    for turn in range(1, 6):
        index.add(blocks_of(turn * text), float(turn))
    assert index.live(5.0) == 1
    index.add(blocks_of(b"other" * 99), 6.0)
    assert index.live(6.0) == 2
    assert index.live(5.1 + LIVE_SECONDS) == 1
    assert index.live(6.1 + LIVE_SECONDS) == 0


def test_conversations_beyond_what_is_remembered_do_not_count() -> None:
    index = PrefixIndex(3)
    for number in range(9):
        index.add(blocks_of(bytes([number]) * BLOCK_BYTES), 0.0)
    assert index.live(0.0) == 3
