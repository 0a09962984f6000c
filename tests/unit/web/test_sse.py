import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferno.core.errors import InferenceFailed
from inferno.web.sse import EventSplitter, data_of, encode_event

# Few symbols, so that blank lines of every kind are common.
streams = st.lists(
    st.sampled_from([b"\n", b"\r\n", b"\r", b"data: x", b"data:", b": hi", b"\n\n", b"\r\n\r\n"]),
    max_size=30,
).map(b"".join)


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


def split(blocks: list[bytes]) -> tuple[list[bytes], bytes]:
    splitter = EventSplitter()
    events = [event for block in blocks for event in splitter.feed(block)]
    return events, splitter.rest()


@given(streams, st.lists(st.integers(min_value=0, max_value=200), max_size=20))
def test_any_cut_of_a_stream_gives_the_same_events(stream: bytes, places: list[int]) -> None:
    assert split(cut(stream, places)) == split([stream])


@given(streams)
def test_events_and_rest_are_the_stream(stream: bytes) -> None:
    events, rest = split([stream])
    assert b"".join(events) + rest == stream
    assert all(event.endswith((b"\n\n", b"\n\r\n")) for event in events)
    assert b"\n\n" not in rest


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_every_cut_in_two_of_a_conversation(end: bytes) -> None:
    one, two = b"data: {}" + end * 2, b"event: x" + end + b"data: [DONE]" + end * 2
    for place in range(len(one + two) + 1):
        stream = one + two
        assert split([stream[:place], stream[place:]]) == ([one, two], b"")


def test_a_single_whole_event_is_passed_on() -> None:
    assert EventSplitter().feed(b"data: 1\n\n") == [b"data: 1\n\n"]


def test_a_stream_that_ends_inside_an_event() -> None:
    splitter = EventSplitter()
    assert splitter.feed(b"data: 1\n\ndata: [DONE]\n") == [b"data: 1\n\n"]
    assert splitter.rest() == b"data: [DONE]\n"
    assert splitter.rest() == b""


@pytest.mark.parametrize("block", [1, 7, 1000])
@pytest.mark.parametrize("ended", [True, False])
def test_an_event_over_the_limit_is_refused_however_it_is_cut(block: int, ended: bool) -> None:
    stream = b"data: " + b"x" * 100 + b"\n\n" * ended
    splitter = EventSplitter(max_event_bytes=100)
    blocks = [stream[start : start + block] for start in range(0, len(stream), block)]
    with pytest.raises(InferenceFailed, match="100 bytes"):
        list(map(splitter.feed, blocks))


def test_an_event_of_exactly_the_limit_is_accepted() -> None:
    event = b"data: " + b"x" * 92 + b"\n\n"
    assert EventSplitter(max_event_bytes=100).feed(event) == [event]


def feeding_time(stream: bytes, block: int) -> float:
    splitter = EventSplitter(max_event_bytes=len(stream))
    start = time.process_time()
    for place in range(0, len(stream), block):
        splitter.feed(stream[place : place + block])
    return time.process_time() - start


@pytest.mark.parametrize("stream", [b"x" * 1_000_000, b"data: 1\n\n" * 110_000])
def test_time_grows_with_the_bytes_only(stream: bytes) -> None:
    once = min(feeding_time(stream, 8) for _ in range(3))
    four_times = min(feeding_time(stream * 4, 8) for _ in range(3))
    assert four_times < once * 4 * 2.5  # quadratic would be 16 times


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (b"data: {}\n\n", b"{}"),
        (b"data:{}\n\n", b"{}"),
        (b"data:  two spaces\n\n", b" two spaces"),
        (b"data: {}\r\n\r\n", b"{}"),
        (b"data: {}\r\n\n", b"{}"),
        (b"data: a\ndata: b\n\n", b"a\nb"),
        (b"data: a\r\ndata: b\r\n\r\n", b"a\nb"),
        (b"event: error\ndata: a\nid: 1\n\n", b"a"),
        (b": comment\n\n", None),
        (b"event: ping\n\n", None),
        (b"data\n\n", b""),
        (b"data: \n\n", b""),
        (b"data:\n\n", b""),
        (b"database: x\n\n", None),
        (b"\n\n", None),
        (b"", None),
        (b"\ndata: a\n\n", b"a"),
        (b"data: a", b"a"),
        (b"data: a\n", b"a"),
    ],
)
def test_data_of(event: bytes, data: bytes | None) -> None:
    assert data_of(event) == data


def test_encode_event() -> None:
    assert encode_event(b'{"a": 1}') == b'data: {"a": 1}\n\n'
    assert encode_event(b"a\nb") == b"data: a\ndata: b\n\n"
    assert encode_event(b"") == b"data: \n\n"


@given(st.lists(st.sampled_from([b"a", b" ", b":", b"\n", b"\r", b"\r\n", b"data: x"])))
def test_a_payload_survives_with_its_line_ends_as_lf(pieces: list[bytes]) -> None:
    payload = b"".join(pieces)
    event = encode_event(payload)
    assert EventSplitter().feed(event) == [event]
    assert data_of(event) == payload.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
