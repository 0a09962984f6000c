from __future__ import annotations

from inferno.core.errors import Overloaded
from inferno.core.inferences import Journey
from inferno.telemetry.metrics import Distribution, Value
from inferno.telemetry.metrics_inferences import PAIRS_PER_NAME, InferenceMetrics
from tests.unit.telemetry.inferences import inference, journey


class Counted(InferenceMetrics):
    """Metrics whose values can be asked for by name and labels."""

    def __init__(self, known: set[str] | None = None, *, max_names: int = 100) -> None:
        self.known = {"tiny"} if known is None else known
        super().__init__(lambda name: name in self.known, max_names=max_names)

    def series(self, name: str) -> dict[tuple[str, ...], Value]:
        (found,) = [one for one in self.measured() if one.family.name == name]
        return dict(found.values)

    def distribution(self, name: str, *labels: str) -> Distribution:
        found = self.series(name)[labels]
        assert isinstance(found, Distribution)
        return found


def test_counts_requests_by_how_they_ended() -> None:
    counted = Counted()
    counted(inference())
    counted(inference())
    counted(inference(outcome="error", error=Overloaded("full")))
    counted(inference(outcome="cancelled", background=True))
    assert counted.series("inferno_inference_requests_total") == {("tiny",): 4}
    assert counted.series("inferno_inference_requests_successful_total") == {("tiny",): 2}
    assert counted.series("inferno_inference_requests_failed_total") == {("tiny",): 1}
    assert counted.series("inferno_inference_requests_cancelled_total") == {("tiny",): 1}
    assert counted.series("inferno_inference_requests_background_total") == {("tiny",): 1}
    assert counted.series("inferno_inference_errors_total") == {("tiny", "Overloaded"): 1}


def test_an_error_that_is_not_ours_has_a_name_too() -> None:
    counted = Counted()
    counted(inference(outcome="error"))
    assert counted.series("inferno_inference_errors_total") == {("tiny", "InternalError"): 1}


def test_measures_times_of_inferences_that_ended_well() -> None:
    counted = Counted()
    counted(inference())
    counted(inference(outcome="error", error=Overloaded("full"), journeys=[Journey(queued=100.0)]))
    for name, labels, seconds in (
        ("inferno_inference_duration_seconds", (), 11.0),
        ("inferno_model_inference_duration_seconds", ("tiny",), 11.0),
        ("inferno_queue_wait_seconds", ("tiny",), 1.0),
        ("inferno_time_to_first_token_seconds", ("tiny",), 3.0),
        ("inferno_time_per_output_token_seconds", ("tiny",), 2.0),
    ):
        found = counted.distribution(name, *labels)
        assert (found.count, found.sum) == (1, seconds), name


def test_a_bucket_holds_what_is_at_its_bound() -> None:
    counted = Counted()
    counted(inference(ended=100.5))
    found = counted.distribution("inferno_inference_duration_seconds")
    below = dict(zip(found.bounds, found.cumulated, strict=False))
    assert (below[0.25], below[0.5], below[1.0]) == (0, 1, 1)


def test_counts_tokens_of_all_choices() -> None:
    counted = Counted()
    counted(inference(journey(), journey(attempts=2, completion_tokens=1)))
    assert counted.series("inferno_inference_tokens_total") == {("tiny",): 6}
    assert counted.series("inferno_prompt_tokens_total") == {("tiny",): 20}
    assert counted.series("inferno_cached_prompt_tokens_total") == {("tiny",): 8}
    assert counted.series("inferno_replica_retries_total") == {("tiny",): 1}
    assert counted.series("inferno_tenant_tokens_total") == {("acme", "tiny"): 6}
    assert counted.series("inferno_tenant_prompt_tokens_total") == {("acme", "tiny"): 20}
    # One token has no time between tokens.
    assert counted.distribution("inferno_time_per_output_token_seconds", "tiny").count == 1


def test_embeddings_have_no_first_token() -> None:
    counted = Counted()
    counted(inference(operation="embeddings"))
    assert counted.series("inferno_time_to_first_token_seconds") == {}
    assert counted.series("inferno_prompt_tokens_total") == {("tiny",): 10}


def test_names_that_somebody_made_up_share_one_series() -> None:
    counted = Counted()
    for number in range(50):
        counted(inference(model=f"made-up-{number}", outcome="error", error=Overloaded("no")))
    assert counted.series("inferno_inference_requests_total") == {("unknown",): 50}
    assert counted.series("inferno_model_inference_duration_seconds") == {}


def test_models_beyond_the_bound_share_one_series() -> None:
    counted = Counted({"a", "b", "c", "d"}, max_names=2)
    for model in "abcda":
        counted(inference(model=model))
    assert counted.series("inferno_inference_requests_total") == {
        ("a",): 2,
        ("b",): 1,
        ("other",): 2,
    }


def test_models_that_are_gone_make_room() -> None:
    counted = Counted({"a", "b", "c"}, max_names=2)
    counted(inference(model="a"))
    counted(inference(model="b"))
    counted.known.remove("a")
    counted(inference(model="c"))
    assert set(counted.series("inferno_inference_requests_total")) == {("b",), ("c",)}


def test_a_model_that_appears_later_gets_its_series() -> None:
    counted = Counted(set())
    counted(inference())
    counted.known.add("tiny")
    counted(inference())
    assert counted.series("inferno_inference_requests_total") == {("unknown",): 1, ("tiny",): 1}


def test_models_with_a_label_of_ours_make_no_second_series() -> None:
    counted = Counted({"other", "unknown"})
    counted(inference(model="other"))
    counted(inference(model="unknown"))
    counted(inference(model="made-up"))
    assert counted.series("inferno_inference_requests_total") == {("other",): 1, ("unknown",): 2}


def test_tenants_beyond_the_bound_share_one_series() -> None:
    counted = Counted(max_names=2)
    for tenant in ("a", "b", "c", "d", "a"):
        counted(inference(tenant=tenant))
    assert counted.series("inferno_tenant_requests_total") == {
        ("a", "tiny"): 2,
        ("b", "tiny"): 1,
        ("other", "tiny"): 2,
    }


def test_pairs_of_tenant_and_model_are_bounded() -> None:
    known = {str(number) for number in range(100)}
    counted = Counted(known, max_names=100)
    for model in known:
        for tenant in range(100):
            counted(inference(model=model, tenant=f"t{tenant}"))
    series = counted.series("inferno_tenant_requests_total")
    assert sum(series.values()) == 10_000  # type: ignore[arg-type]
    assert len(series) <= 100 * PAIRS_PER_NAME + 100
