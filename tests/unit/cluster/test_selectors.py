"""Label and field selectors."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from inferno.cluster.selectors import Selector, field_text, parse_fields, parse_labels
from inferno.core.errors import InvalidRequest

LABELS = {"app": "web", "tier": "gold", "example.com/size": "5", "empty": ""}


@pytest.mark.parametrize(
    ("text", "admitted"),
    [
        ("", True),
        ("app=web", True),
        ("app == web", True),
        ("app=api", False),
        ("app!=api", True),
        ("app!=web", False),
        ("missing!=web", True),
        ("app in (web, api)", True),
        ("app in (api)", False),
        ("app notin (api)", True),
        ("missing notin (api)", True),
        ("app", True),
        ("missing", False),
        ("!app", False),
        ("!missing", True),
        ("example.com/size>4", True),
        ("example.com/size > 5", False),
        ("example.com/size<6", True),
        ("app<6", False),
        ("empty=", True),
        ("app=web,tier=gold", True),
        ("app in (web,api),tier!=gold", False),
    ],
)
def test_labels(text: str, admitted: bool) -> None:
    assert Selector(parse_labels(text)).admits(LABELS, dict) is admitted


@pytest.mark.parametrize("text", ["app in (", "a b", "=x", "a>x", "app=web,", "a" * 20_000, "a(b)"])
def test_labels_that_cannot_be_read(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_labels(text)


def test_fields() -> None:
    served = {"metadata": {"name": "a"}, "spec": {"on": True, "size": 5}}
    wanted = parse_fields("metadata.name=a,spec.on=true,spec.size!=6,spec.none=", lambda _: True)
    assert Selector(fields=wanted).admits({}, lambda: served)
    assert Selector(fields=wanted).name == "a"
    other = parse_fields("spec.size=6", lambda _: True)
    assert not Selector(fields=other).admits({}, lambda: served)
    assert field_text(served, "spec.on.deeper") == ""


def test_fields_that_are_not_known() -> None:
    with pytest.raises(InvalidRequest, match="not a known field"):
        parse_fields("spec.x=1", lambda _: False)
    with pytest.raises(InvalidRequest, match="not understood"):
        parse_fields("spec.x", lambda _: True)


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse_labels, "!" + " " * 16_000 + "("),
        (parse_labels, "," * 16_000),
        (parse_labels, "(a," * 5_000),
        (lambda text: parse_fields(text, lambda _: True), "a=" + "\t" * 16_000 + "x\ny"),
        (lambda text: parse_fields(text, lambda _: True), "a" + "\t" * 16_000 + "x"),
    ],
)
def test_selectors_that_make_parsers_try_everything(parse: Callable[[str], Any], text: str) -> None:
    """Each took seconds, or hours: the first answer, whichever it is, has to come."""
    with suppress(InvalidRequest):
        parse(text)


def test_a_bound_that_is_no_number() -> None:
    with pytest.raises(InvalidRequest):
        parse_labels("size>" + "9" * 5_000)
