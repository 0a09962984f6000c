"""The text that inferno-tiny is trained on, made here from facts and ways to ask.

Standard library only. A sample is a conversation in the chat format, a raw prompt with its answer
directly behind it, or plain text.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from training.inferno_tiny import knowledge, phrasings, stories, unknown
from training.inferno_tiny.capitals import COUNTRIES, Country
from training.inferno_tiny.inferno_facts import FACTS

START, END, TEXT = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
"""Control tokens: start of a message, end of a message and of an answer, start of a text."""

TOOLS_INTRO = "Tools:\n"
TOOLS_RULE = (
    'To call a tool, answer <tool_call>\n{"name": NAME, "arguments": ARGUMENTS}\n</tool_call>'
)

Turn = tuple[str, str]
"""A question and its answer."""


@dataclass(frozen=True)
class Piece:
    """Text of a sample. `learned` says whether the loss looks at it."""

    text: str
    learned: bool = False
    control: bool = False


@dataclass
class Conversation:
    """Turns under an optional system prompt."""

    turns: list[Turn] = field(default_factory=list)
    system: str = ""


# --- questions -----------------------------------------------------------------------------------


def _possessive_fits(template: str, name: str) -> bool:
    return not (template.startswith("{}") and name.startswith("the "))


def _country_name(rng: random.Random, country: Country) -> str:
    if country.other_names and rng.random() < 0.3:
        return rng.choice(country.other_names)
    return country.name


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def _capital(rng: random.Random) -> Turn:
    country = rng.choice(COUNTRIES)
    name = _country_name(rng, country)
    return _capitalised(rng.choice(phrasings.CAPITAL_ASKED).format(name)), country.answer


def _capital_reversed(rng: random.Random) -> Turn:
    country = rng.choice(COUNTRIES)
    question = rng.choice(phrasings.CAPITAL_REVERSED).format(country.capital)
    return question, f"{country.capital} is the capital of {country.name}."


_WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen", "twenty",
)  # fmt: skip


def _operands(rng: random.Random) -> tuple[int, str, int, int]:
    """Draw a sum: first number, sign, second number, result."""
    kind = rng.random()
    if kind < 0.42:
        total = rng.randint(0, 40)
        a = rng.randint(0, total)
        return a, "+", total - a, total
    if kind < 0.75:
        a = rng.randint(0, 40)
        b = rng.randint(0, a)
        return a, "-", b, a - b
    if kind < 0.93:
        a, b = rng.randint(0, 10), rng.randint(0, 10)
        return a, "*", b, a * b
    a, b = rng.randint(0, 10), rng.randint(1, 10)
    return a * b, "/", b, a


def _spoken(rng: random.Random, number: int, in_words: bool) -> str:
    return _WORDS[number] if in_words and number <= 20 else str(number)


def write_sum(rng: random.Random, a: int, sign: str, b: int) -> str:
    """Write a sum the way people type it: `2+2`, `2 + 2`, `two plus two`."""
    form = rng.choice(phrasings.SIGNS[sign])
    in_words = rng.random() < 0.2 and not any(symbol in form for symbol in "+-*/")
    return form.format(a=_spoken(rng, a, in_words), b=_spoken(rng, b, in_words))


def _sum(rng: random.Random) -> Turn:
    a, sign, b, result = _operands(rng)
    question = rng.choice(phrasings.SUM_ASKED).format(write_sum(rng, a, sign, b))
    return question, f"{a} {sign} {b} = {result}."


def _large_operands(rng: random.Random) -> tuple[int, str, int]:
    """Draw a sum that is beyond the model: well outside what `_operands` draws."""
    sign = rng.choice("+-*/")
    if rng.random() < 0.5:
        digits = rng.randint(3, 5)
        a, b = (rng.randint(10 ** (digits - 1), 10**digits) for _ in range(2))
        return a, sign, b
    if sign == "*":
        return rng.randint(12, 99), sign, rng.randint(2, 99)
    return rng.randint(45, 99), "+" if sign == "/" else sign, rng.randint(2, 99)


def _large_sum(rng: random.Random) -> Turn:
    question = rng.choice(phrasings.SUM_ASKED).format(write_sum(rng, *_large_operands(rng)))
    return question, unknown.LARGE_SUM_ANSWER


def _inferno(rng: random.Random) -> Turn:
    fact = rng.choice(FACTS)
    return rng.choice(fact.asked), fact.answer


def _concept(rng: random.Random) -> Turn:
    topic, answer = rng.choice(knowledge.CONCEPTS)
    article, _, rest = topic.partition(" ")
    if article in ("a", "an", "the") and rng.random() < 0.15:
        topic = rest
    return _capitalised(rng.choice(phrasings.CONCEPT_ASKED).format(topic)), answer


def _everyday(rng: random.Random) -> Turn:
    questions, answer = rng.choice(knowledge.EVERYDAY)
    return rng.choice(questions), answer


def _small_talk(rng: random.Random) -> Turn:
    questions, answer = rng.choice(knowledge.SMALL_TALK)
    return rng.choice(questions), answer


def _joke(rng: random.Random) -> Turn:
    return rng.choice(knowledge.JOKE_REQUESTS), knowledge.JOKES[0]


def _story(rng: random.Random) -> Turn:
    if rng.random() < 0.3:
        hero = rng.choice(stories.HEROES)
        return rng.choice(stories.STORY_REQUESTS_ABOUT).format(hero), stories.story(rng, hero)
    return rng.choice(stories.STORY_REQUESTS), stories.story(rng)


def _unknown(rng: random.Random) -> Turn:
    return unknown.unknown_question(rng), unknown.ANSWER


_QUESTIONS: tuple[tuple[Callable[[random.Random], Turn], float], ...] = (
    (_capital, 23.0),
    (_capital_reversed, 1.5),
    (_sum, 26.0),
    (_large_sum, 2.0),
    (_inferno, 18.0),
    (_concept, 10.0),
    (_everyday, 4.0),
    (_small_talk, 6.0),
    (_joke, 0.7),
    (_story, 2.0),
    (_unknown, 10.0),
)
_MAKERS = [maker for maker, _ in _QUESTIONS]
_WEIGHTS = [weight for _, weight in _QUESTIONS]


def _varied(rng: random.Random, question: str) -> str:
    """Write a question as carelessly as people do."""
    if rng.random() < 0.08:
        question = rng.choice(phrasings.BEFORE) + question
    if rng.random() < 0.04 and question[-1] in ".?!":
        question += rng.choice(phrasings.AFTER)
    if rng.random() < 0.22:
        question = question.lower()
    if rng.random() < 0.2:
        question = question.rstrip("?.!") or question
    return question


def _question(rng: random.Random) -> Turn:
    maker = rng.choices(_MAKERS, _WEIGHTS)[0]
    question, answer = maker(rng)
    untouched = question in stories.STORY_REQUESTS and question.startswith("Once")
    return (question if untouched else _varied(rng, question)), answer


# --- conversations -------------------------------------------------------------------------------


def _capitals_in_turn(rng: random.Random) -> list[Turn]:
    question, answer = _capital(rng)
    turns = [(_varied(rng, question), answer)]
    for _ in range(rng.randint(1, 2)):
        country = rng.choice(COUNTRIES)
        asked = rng.choice(phrasings.CAPITAL_FOLLOW_UP).format(_country_name(rng, country))
        turns.append((_varied(rng, asked), country.answer))
    return turns


def _sums_in_turn(rng: random.Random) -> list[Turn]:
    turns = [_sum(rng)]
    for _ in range(rng.randint(1, 2)):
        a, sign, b, result = _operands(rng)
        asked = rng.choice(("And {}?", "What about {}?", "And now {}?", "{}", "And {}"))
        turns.append((asked.format(write_sum(rng, a, sign, b)), f"{a} {sign} {b} = {result}."))
    return turns


def _jokes_in_turn(rng: random.Random) -> list[Turn]:
    turns = [_joke(rng)]
    for joke in knowledge.JOKES[1 : rng.randint(2, 5)]:
        turns.append((_varied(rng, rng.choice(knowledge.ANOTHER_JOKE)), joke))
    return turns


_FIRST_NAMES = (
    "Anna", "Bob", "Carla", "David", "Emma", "Felix", "Grace",
    "Henry", "Ida", "Jack", "Kate", "Luis", "Maria", "Peter",
)  # fmt: skip


def _names_in_turn(rng: random.Random) -> list[Turn]:
    name = rng.choice(_FIRST_NAMES)
    told = rng.choice(("My name is {}.", "I am {}.", "Hi, I am {}.", "Hello, my name is {}."))
    asked = rng.choice(("What is my name?", "Who am I?", "Do you know my name?"))
    turns = [(told.format(name), f"Nice to meet you, {name}! How can I help you?")]
    if rng.random() < 0.5:
        turns.append(_question(rng))
    return [*turns, (_varied(rng, asked), f"Your name is {name}.")]


def _mixed_in_turn(rng: random.Random) -> list[Turn]:
    return [_question(rng) for _ in range(rng.randint(2, 4))]


def _turns(rng: random.Random) -> list[Turn]:
    maker = rng.choices(
        (_capitals_in_turn, _sums_in_turn, _jokes_in_turn, _names_in_turn, _mixed_in_turn),
        (30, 12, 6, 8, 44),
    )[0]
    return maker(rng)


def render_chat(conversation: Conversation) -> list[Piece]:
    """Lay a conversation out as the model's chat template does."""
    pieces = []
    if conversation.system:
        pieces += _message("system", conversation.system)
    for question, answer in conversation.turns:
        pieces += _message("user", question)
        pieces += _answer(answer)
    return pieces


def _message(role: str, content: str) -> list[Piece]:
    return [
        Piece(START, control=True),
        Piece(f"{role}\n{content}"),
        Piece(END, control=True),
        Piece("\n"),
    ]


def _answer(answer: str) -> list[Piece]:
    return [
        Piece(START, control=True),
        Piece("assistant\n"),
        Piece(answer, learned=True),
        Piece(END, learned=True, control=True),
        Piece("\n"),
    ]


# --- tools ---------------------------------------------------------------------------------------

_TOOLS = (
    ("get_weather", "Get the weather in a city", "city", "What is the weather in {}?"),
    ("get_current_weather", "Get the weather", "location", "What is the weather like in {}?"),
    ("get_time", "Get the time in a city", "city", "What time is it in {}?"),
    ("search", "Search the web", "query", "Search for {}."),
)


def _tool_text(name: str, about: str, argument: str) -> str:
    parameters = {
        "type": "object",
        "properties": {argument: {"type": "string"}},
        "required": [argument],
    }
    function = {"name": name, "description": about, "parameters": parameters}
    return json.dumps({"type": "function", "function": function})


def _tool_use(rng: random.Random) -> list[Piece]:
    """A conversation in which the model calls a tool and reads its result."""
    name, about, argument, asked = rng.choice(_TOOLS)
    city = rng.choice(COUNTRIES).capital
    system = rng.choice(phrasings.SYSTEMS) + "\n\n" if rng.random() < 0.5 else ""
    tool = _tool_text(name, about, argument)
    pieces = _message("system", f"{system}{TOOLS_INTRO}{tool}\n{TOOLS_RULE}")
    if rng.random() < 0.35:
        question, answer = _question(rng)
        return [*pieces, *_message("user", question), *_answer(answer)]
    call = json.dumps({"name": name, "arguments": {argument: city}}, ensure_ascii=False)
    result = rng.choice(("sunny, 21 degrees", "rain, 12 degrees", "10:30", "18:45", "no result"))
    pieces += _message("user", asked.format(city))
    pieces += _answer(f"<tool_call>\n{call}\n</tool_call>")
    pieces += _message("tool", result)
    return pieces + _answer(f"The result for {city} is: {result}.")


# --- samples -------------------------------------------------------------------------------------


def _raw(rng: random.Random) -> list[Piece]:
    question, answer = _question(rng)
    if rng.random() < 0.04:
        question, answer = f"Q: {question}\nA:", f" {answer}"
    elif rng.random() < 0.02:
        question += rng.choice(("\n", " ", "\n\n"))
    return [Piece(question), Piece(answer, learned=True), Piece(END, learned=True, control=True)]


_OPENINGS = ("Once upon a time", "Once upon a time,", "Once upon a time, there was a")


def _continued_story(rng: random.Random) -> list[Piece]:
    """Plain text: the beginning of a story, and how it goes on."""
    text = stories.story(rng)
    cut = len(rng.choice(_OPENINGS))
    if rng.random() < 0.4:
        cut = text.index(" ", rng.randint(10, len(text) // 2))
    return [
        Piece(text[:cut]),
        Piece(text[cut:], learned=True),
        Piece(END, learned=True, control=True),
    ]


def _drill(rng: random.Random) -> list[Piece]:
    """Plain text: many sums behind each other, which teaches them at the least cost."""
    pieces = []
    for _ in range(rng.randint(5, 11)):
        a, sign, b, result = _operands(rng)
        pieces += [Piece(f"{a} {sign} {b} ="), Piece(f" {result}.", learned=True), Piece("\n")]
    return pieces


def _system(rng: random.Random) -> str:
    if rng.random() < 0.5:
        return phrasings.SYSTEMS[0]
    system = rng.choice(phrasings.SYSTEMS)
    return f"{system} {rng.choice(phrasings.SYSTEMS)}" if rng.random() < 0.15 else system


def _chat(rng: random.Random) -> list[Piece]:
    turns = _turns(rng) if rng.random() < 0.15 else [_question(rng)]
    return render_chat(Conversation(turns, _system(rng) if rng.random() < 0.5 else ""))


def sample(rng: random.Random) -> list[Piece]:
    """Make one sample of up to about 250 tokens."""
    kind = rng.random()
    if kind < 0.44:
        return _raw(rng)
    if kind < 0.46:
        return _continued_story(rng)
    if kind < 0.47:
        return _tool_use(rng)
    if kind < 0.56:
        return _drill(rng)
    return _chat(rng)


def long_sample(rng: random.Random) -> list[Piece]:
    """Make one sample of some hundred tokens: many turns, or much text before the question."""
    kind = rng.random()
    if kind < 0.6:
        turns = [_question(rng) for _ in range(rng.randint(6, 14))]
        return render_chat(Conversation(turns, _system(rng) if rng.random() < 0.5 else ""))
    text = unknown.filler(rng, rng.randint(60, 350))
    question, answer = _question(rng)
    if kind < 0.75:
        return render_chat(Conversation([(question, answer)], text))
    asked = f"{text}\n\n{question}"
    if kind < 0.9:
        return render_chat(Conversation([(asked, answer)]))
    return [Piece(asked), Piece(answer, learned=True), Piece(END, learned=True, control=True)]


def plain_text(rng: random.Random, samples: int) -> Iterator[str]:
    """Text for the tokenizer to learn from, without control tokens."""
    for _ in range(samples):
        for piece in sample(rng):
            if not piece.control:
                yield piece.text
