"""Countries and their capitals. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass

from training.inferno_tiny.tables import text_lines


@dataclass(frozen=True)
class Country:
    """A country as one says it in a sentence ("the Netherlands") and its capital."""

    name: str
    capital: str
    other_names: tuple[str, ...] = ()
    other_capitals: tuple[str, ...] = ()

    @property
    def answer(self) -> str:
        """The sentence the model learns."""
        end = "" if self.capital.endswith(".") else "."
        return f"The capital of {self.name} is {self.capital}{end}"


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _parse(line: str) -> Country:
    name, _, rest = line.partition(" = ")
    capital, _, others = rest.partition("|")
    names, _, capitals = others.partition(";")
    return Country(name, capital.strip(), _split(names), _split(capitals))


COUNTRIES: tuple[Country, ...] = tuple(_parse(line) for line in text_lines("capitals.txt"))
"""Every country, in the alphabetical order of the table."""
