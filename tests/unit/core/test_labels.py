from hypothesis import given

from inferno.core.labels import selects
from tests.unit.core.documents import selectors


def test_every_label_has_to_match() -> None:
    assert selects({"a": "1"}, {"a": "1", "b": "2"})
    assert not selects({"a": "1", "c": "3"}, {"a": "1", "b": "2"})
    assert not selects({"a": "2"}, {"a": "1"})
    assert not selects({"a": ""}, {})


def test_an_empty_selector_finds_nothing() -> None:
    assert not selects({}, {"a": "1"})


@given(selectors, selectors)
def test_a_selector_finds_what_carries_its_labels_and_more(
    selector: dict[str, str], more: dict[str, str]
) -> None:
    assert selects(selector, more | selector) == bool(selector)
