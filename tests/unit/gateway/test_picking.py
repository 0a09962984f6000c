from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferno.core.errors import ConfigurationError
from inferno.gateway.endpoints import Endpoint
from inferno.gateway.lines import Line
from inferno.gateway.picking import (
    ANSWER_BYTES,
    DEFAULT,
    SCORERS,
    Picker,
    Want,
    by_cost,
    by_kv_cache,
    by_lora,
    by_session,
    cost,
    unread_bytes,
)
from inferno.gateway.prefixes import BLOCK_BYTES, blocks_of
from inferno.gateway.scraping import EndpointLoad
from inferno.gateway.upstream import Address
from inferno.settings import Settings

SLOTS = 4
NOW = time.monotonic()


def endpoint(name: str = "a", *, in_flight: int = 0, backlog: int = 0) -> Endpoint:
    return Endpoint(
        name=name,
        model="",
        address=Address("127.0.0.1", 1),
        authorization=b"",
        capacity=2 * SLOTS,
        slots=SLOTS,
        context_size=0,
        capabilities=None,
        in_flight=in_flight,
        backlog=backlog,
    )


def knowing(prompt: bytes, name: str = "warm", *, in_flight: int = 0) -> Endpoint:
    one = endpoint(name, in_flight=in_flight)
    one.prefixes.add(blocks_of(prompt), NOW)
    return one


def load(*, running: int = 0, waiting: int = 0, usage: float = 0.0) -> EndpointLoad:
    return EndpointLoad(waiting, running, usage, at=time.monotonic())


PROMPT = b"".join(b"%d words of a long prompt, " % number for number in range(400))
ENDPOINTS = st.lists(
    st.builds(
        endpoint,
        st.text(min_size=1, max_size=3),
        in_flight=st.integers(0, 2 * SLOTS),
        backlog=st.integers(0, 10**6),
    ),
    min_size=1,
    max_size=5,
)
WANTS = st.builds(Want, prompt=st.binary(max_size=4000), session=st.text(max_size=3))


@given(ENDPOINTS, WANTS)
def test_every_scorer_gives_each_candidate_a_figure_from_0_to_1(
    candidates: list[Endpoint], want: Want
) -> None:
    for scorer in SCORERS.values():
        scores = scorer(candidates, want)
        assert len(scores) == len(candidates)
        assert all(0.0 <= score <= 1.0 for score in scores)


@given(st.sampled_from([DEFAULT, *SCORERS]), ENDPOINTS, WANTS)
def test_one_of_the_candidates_is_picked_and_left_as_it_is(
    text: str, candidates: list[Endpoint], want: Want
) -> None:
    before = [(one.in_flight, one.backlog, len(one.prefixes)) for one in candidates]
    assert Picker.parse(text).pick(candidates, want) in candidates
    assert [(one.in_flight, one.backlog, len(one.prefixes)) for one in candidates] == before


@given(ENDPOINTS, WANTS)
def test_what_costs_less_scores_more(candidates: list[Endpoint], want: Want) -> None:
    costs = [cost(one, want, NOW) for one in candidates]
    scores = by_cost(candidates, want)
    by_costs = sorted(range(len(candidates)), key=lambda at: costs[at])
    assert scores[by_costs[0]] == 1.0
    for cheaper, dearer in itertools.pairwise(by_costs):
        assert scores[cheaper] >= scores[dearer]


@given(st.integers(0, 2 * SLOTS - 1), st.integers(0, 10**6), st.integers(1, 10**6), st.binary())
def test_more_to_do_costs_more(in_flight: int, backlog: int, more: int, prompt: bytes) -> None:
    want = Want(prompt=prompt)
    now = cost(endpoint(in_flight=in_flight, backlog=backlog), want, NOW)
    assert cost(endpoint(in_flight=in_flight + 1, backlog=backlog), want, NOW) > now
    assert cost(endpoint(in_flight=in_flight, backlog=backlog + more), want, NOW) > now


@given(st.integers(0, len(PROMPT)))
def test_what_is_known_of_a_prompt_is_not_read_again(known: int) -> None:
    one = knowing(PROMPT[:known])
    read = unread_bytes(one, Want(prompt=PROMPT))
    assert read == len(PROMPT) - known // BLOCK_BYTES * BLOCK_BYTES


def test_a_conversation_stays_where_it_was() -> None:
    warm, cold = knowing(PROMPT[:5000], in_flight=2), endpoint("cold")
    want = Want(prompt=PROMPT[:5600])
    assert Picker.parse(DEFAULT).pick([cold, warm], want) is warm


def test_a_conversation_moves_when_too_many_wait_where_it_was() -> None:
    warm, cold = knowing(PROMPT[:1000], in_flight=2 * SLOTS - 1), endpoint("cold")
    want = Want(prompt=PROMPT[:1400])
    assert Picker.parse(DEFAULT).pick([cold, warm], want) is cold


def test_a_long_prompt_is_worth_a_longer_wait_than_a_short_one() -> None:
    def stays(length: int) -> bool:
        warm, cold = knowing(PROMPT[:length], in_flight=SLOTS + 1), endpoint("cold")
        return Picker.parse(DEFAULT).pick([cold, warm], Want(prompt=PROMPT[:length])) is warm

    assert stays(5000)
    assert not stays(500)


def test_a_prompt_that_is_being_read_keeps_others_away() -> None:
    reading, idle = endpoint("reading", in_flight=1, backlog=100_000), endpoint("idle", in_flight=2)
    assert Picker.parse(DEFAULT).pick([reading, idle], Want(prompt=PROMPT)) is idle


def test_a_new_conversation_goes_where_nobody_else_is_forgotten() -> None:
    full, empty = knowing(PROMPT[:4096], "full"), endpoint("empty")
    full.prefixes.remembered = empty.prefixes.remembered = 4096 // BLOCK_BYTES
    want = Want(prompt=b"another " * 400)
    assert Picker.parse(DEFAULT).pick([full, empty], want) is empty
    assert cost(full, want, NOW) > cost(empty, want, NOW)


def test_a_new_conversation_keeps_away_from_those_that_lead_many() -> None:
    system = b"s" * (3 * BLOCK_BYTES)
    leading, other = endpoint("leading"), endpoint("other")
    for number in range(SLOTS):
        leading.prefixes.add(blocks_of(system + b"%d" % number * 500), time.monotonic())
    new, again = system + b"new" * 50, system + b"3" * 600
    picker = Picker.parse(DEFAULT)
    assert picker.pick([leading, other], Want(prompt=new)) is other
    assert picker.pick([leading, other], Want(prompt=again)) is leading


def test_new_conversations_are_spread() -> None:
    line = Line("m", 100, Picker.parse(DEFAULT))
    for name in "abc":
        line.add(endpoint(name))
    taken = [line.take(Want(prompt=b"%d" % number * 500)) for number in range(12)]
    assert Counter(one.name for one in taken if one) == {"a": 4, "b": 4, "c": 4}


def test_requests_of_others_count_too() -> None:
    busy, idle = endpoint("busy"), endpoint("idle")
    busy.scraped(load(running=SLOTS, waiting=3))
    idle.scraped(load())
    assert busy.busy == SLOTS + 3
    assert cost(busy, Want(), NOW) - cost(idle, Want(), NOW) == ANSWER_BYTES * (1 + 3)
    assert Picker.parse(DEFAULT).pick([busy, idle], Want()) is idle


async def test_what_was_taken_for_a_request_is_given_back_with_its_place() -> None:
    line = Line("m", 10, Picker.parse(DEFAULT))
    one, other = endpoint("a"), endpoint("b")
    line.add(one)
    line.add(other)
    want = Want(prompt=PROMPT)
    taken = await line.acquire(want)
    assert taken.backlog == want.unread == len(PROMPT)
    again = Want(prompt=PROMPT)
    assert await line.acquire(again) is taken
    assert taken.backlog == len(PROMPT) + again.unread
    assert again.unread < BLOCK_BYTES
    line.release(taken, None, want.unread)
    line.release(taken, None, again.unread)
    assert (one.backlog, other.backlog) == (0, 0)


async def test_who_leaves_in_the_instant_of_its_turn_leaves_no_backlog() -> None:
    line = Line("m", 10, Picker.parse(DEFAULT))
    ends = [endpoint("a"), endpoint("b")]
    for one in ends:
        one.capacity = one.slots = 1
        line.add(one)
    wants = [Want(prompt=PROMPT), Want(prompt=PROMPT[::-1])]
    held = [await line.acquire(want) for want in wants]
    leaving = asyncio.ensure_future(line.acquire(Want(prompt=PROMPT)))
    await asyncio.sleep(0)
    line.release(held[0], None, wants[0].unread)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    line.release(held[1], None, wants[1].unread)
    assert [one.backlog for one in ends] == [0, 0]
    assert [one.in_flight for one in ends] == [0, 0]


def test_an_endpoint_that_holds_the_adapter_is_preferred() -> None:
    holding, room, full = endpoint("holding"), endpoint("room"), endpoint("full")
    now = time.monotonic()
    holding.load = EndpointLoad(0, 0, max_lora=2, loras=frozenset({"mine", "other"}), at=now)
    room.load = EndpointLoad(0, 0, max_lora=2, loras=frozenset({"other"}), at=now)
    full.load = EndpointLoad(0, 0, max_lora=1, loras=frozenset({"other"}), at=now)
    assert by_lora([full, room, holding], Want(model="mine")) == [0.0, 0.8, 1.0]
    assert Picker.parse(DEFAULT).pick([full, room, holding], Want(model="mine")) is holding


def test_room_in_the_cache_is_preferred() -> None:
    full, empty = endpoint("full"), endpoint("empty")
    full.scraped(load(usage=0.9))
    empty.scraped(load(usage=0.1))
    assert by_kv_cache([full, empty], Want()) == pytest.approx([0.1, 0.9])
    assert Picker.parse(DEFAULT).pick([full, empty], Want()) is empty


def sessions(candidates: Sequence[Endpoint]) -> dict[str, str]:
    return {
        session: candidates[by_session(candidates, Want(session=session)).index(1.0)].name
        for session in map(str, range(60))
    }


def test_only_the_sessions_of_an_endpoint_that_goes_move() -> None:
    candidates = [endpoint(name) for name in ("one", "two", "three")]
    before = sessions(candidates)
    assert set(before.values()) == {"one", "two", "three"}
    after = sessions(candidates[:2])
    assert {s: name for s, name in before.items() if name != "three"}.items() <= after.items()


def test_a_session_stays_unless_its_endpoint_is_far_behind() -> None:
    picker = Picker.parse(DEFAULT)
    candidates = [endpoint("one"), endpoint("two")]
    want = Want(session="mine", prompt=PROMPT[:1000])
    own = candidates[by_session(candidates, want).index(1.0)]
    own.in_flight = SLOTS
    assert picker.pick(candidates, want) is own
    own.backlog = 1_000_000
    assert picker.pick(candidates, want) is not own


def test_equals_are_taken_in_turn() -> None:
    candidates = [endpoint(name) for name in "abc"]
    for text in (DEFAULT, "round-robin", "in-flight"):
        picker = Picker.parse(text)
        picked = [picker.pick(candidates, Want()).name for _ in range(6)]
        assert Counter(picked) == {"a": 2, "b": 2, "c": 2}


def test_round_robin_asks_nobody_how_busy_it_is() -> None:
    candidates = [endpoint("a", in_flight=7), endpoint("b")]
    picker = Picker.parse("round-robin")
    assert {picker.pick(candidates, Want()).name for _ in range(2)} == {"a", "b"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("best", "there is no scorer 'best'"),
        ("", "there is no scorer ''"),
        ("cost=none", "the weight of 'cost'"),
        ("cost=0", "the weight of 'cost'"),
        ("cost=-1", "the weight of 'cost'"),
        ("cost=nan", "the weight of 'cost'"),
        ("cost=inf", "the weight of 'cost'"),
    ],
)
def test_what_is_no_picker_is_refused(text: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        Picker.parse(text)


def test_only_pickers_that_look_at_prompts_have_them_read() -> None:
    assert Picker.parse(DEFAULT).reads_prompts
    assert Picker.parse("prefix").reads_prompts
    assert not Picker.parse("in-flight,queue=2").reads_prompts


def test_the_default_is_the_setting() -> None:
    assert Settings(data_dir=Path()).picker == DEFAULT


def test_replicas_that_would_have_to_change_their_adapter_come_last() -> None:
    one, two = endpoint("one"), endpoint("two")
    for each in (one, two):
        each.adapters = {"poet": 0, "lawyer": 1}
    one.adapter, two.adapter = "poet", ""
    assert by_lora([one, two], Want(model="poet")) == [1.0, 0.0]
    assert by_lora([one, two], Want(model="lawyer")) == [0.0, 0.0]
    assert by_lora([one, two], Want(model="base")) == [0.0, 1.0]
    assert by_lora([one, two], Want()) == [0.0, 1.0]


async def test_a_line_notes_which_adapter_an_endpoint_works_with() -> None:
    line, adapted = Line("m", 10, Picker.parse(DEFAULT)), endpoint()
    adapted.adapters, adapted.serves = {"poet": 0}, frozenset({"poet", "base"})
    line.add(adapted)
    for model, adapter in (("poet", "poet"), ("base", ""), ("poet", "poet"), ("", "")):
        line.release(await line.acquire(Want(model=model)))
        assert adapted.adapter == adapter
