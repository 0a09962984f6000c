from __future__ import annotations

from inferno.core.errors import Overloaded
from inferno.core.inferences import Inference, Journey, TraceContext
from inferno.telemetry.spans import spans_of
from inferno.telemetry.traces import Record, Sampling, Tracer, Wanted
from tests.unit.telemetry.inferences import inference, journey

BEGAN_NS = 1_700_000_000_000_000_000


def recorded(one: Inference) -> Record:
    tracer = Tracer(Sampling(), ring=1)
    tracer(one)
    (record,) = tracer.find(Wanted())
    return record


def test_an_inference_is_a_span_with_its_parts_below() -> None:
    root, *parts = spans_of(recorded(inference()))
    assert (root.name, root.kind, root.status) == ("chat tiny", "server", "unset")
    assert (root.start_ns, root.end_ns) == (BEGAN_NS, BEGAN_NS + 11 * 10**9)
    seconds = [(s.name, (s.start_ns - BEGAN_NS) / 1e9, (s.end_ns - BEGAN_NS) / 1e9) for s in parts]
    assert seconds == [
        ("queue", 0.0, 1.0),
        ("time_to_first_token", 1.0, 3.0),
        ("generate", 3.0, 11.0),
    ]
    assert {part.parent_id for part in parts} == {root.span_id}
    (pick,) = root.events
    assert pick.name == "pick"
    assert pick.at_ns == BEGAN_NS + 10**9
    assert pick.attributes == {"inferno.replica": "tiny-abc", "inferno.attempts": 1}


def test_attributes_are_those_of_the_conventions() -> None:
    attributes = spans_of(recorded(inference()))[0].attributes
    assert attributes["gen_ai.operation.name"] == "chat"
    assert attributes["gen_ai.request.model"] == "tiny"
    assert attributes["gen_ai.response.model"] == "tiny"
    assert attributes["gen_ai.usage.input_tokens"] == 10
    assert attributes["gen_ai.usage.output_tokens"] == 5
    assert attributes["gen_ai.usage.cache_read.input_tokens"] == 4
    assert attributes["inferno.tenant"] == "acme"
    assert "gen_ai.request.choice.count" not in attributes
    assert "error.type" not in attributes


def test_the_callers_span_is_the_parent() -> None:
    trace = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00f067aa0ba902b7")
    assert spans_of(recorded(inference(trace=trace)))[0].parent_id == "00f067aa0ba902b7"


def test_every_choice_has_its_parts_and_every_span_an_id_of_its_own() -> None:
    record = recorded(inference(journey(), journey(endpoint="tiny-def")))
    root, *parts = spans_of(record)
    assert [part.attributes["inferno.choice"] for part in parts] == [0, 0, 0, 1, 1, 1]
    assert root.attributes["gen_ai.request.choice.count"] == 2
    assert len({span.span_id for span in (root, *parts)}) == 7
    assert spans_of(record) == [root, *parts]


def test_one_that_never_left_the_queue_has_no_more_than_that() -> None:
    waited = Journey(queued=100.0, ended=105.0)
    root, *parts = spans_of(
        recorded(inference(waited, outcome="error", error=Overloaded("full"), ended=105.0))
    )
    assert [part.name for part in parts] == ["queue"]
    assert (root.status, root.events) == ("error", ())
    assert root.attributes["error.type"] == "Overloaded"
    assert "gen_ai.response.model" not in root.attributes


def test_one_that_was_refused_before_it_waited_has_no_parts() -> None:
    root, *parts = spans_of(recorded(inference(Journey(), outcome="cancelled")))
    assert parts == []
    assert root.attributes["inferno.outcome"] == "cancelled"
