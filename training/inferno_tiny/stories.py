"""A small grammar of stories. Standard library only."""

from __future__ import annotations

import random

HEROES: tuple[str, ...] = (
    "fox", "cat", "dog", "rabbit", "bear", "mouse", "dragon", "robot", "bird", "frog", "owl",
    "turtle", "lion", "horse", "duck", "hedgehog", "squirrel", "princess", "boy", "girl",
    "wizard", "knight", "king", "star", "whale", "elephant", "penguin", "tiger",
)  # fmt: skip
_NAMES = ("Lily", "Max", "Tom", "Mia", "Sam", "Ella", "Leo", "Nora", "Ben", "Ruby", "Finn", "Zoe")
_QUALITIES = ("little", "small", "brave", "kind", "clever", "curious", "quiet", "happy")
_PLACES = (
    "in a quiet forest",
    "near a blue lake",
    "on a green hill",
    "in a small village",
    "by the sea",
    "at the edge of a big garden",
)
_THINGS = (
    "a shiny key",
    "a small red boat",
    "an old map",
    "a lost kitten",
    "a golden leaf",
    "a tiny lamp",
    "a blue stone",
)
_FEELINGS = ("very happy", "a little afraid", "very curious", "surprised")
_PLANS = (
    "wanted to find out where it came from",
    "decided to bring it home",
    "asked a friend for help",
    "followed the path to the old bridge",
)
_TURNS = (
    "On the way it began to rain, but {name} did not give up.",
    "The way was long, but {name} kept going.",
    "Soon it was dark, and the stars came out one by one.",
    "A kind old owl showed {name} the way.",
)
_ENDS = (
    "In the end everyone was glad, and they all had a big supper together.",
    "In the end {name} came home safely and slept well that night.",
    "From that day on, {name} had a new friend.",
    "And {name} learned that even a small one can do great things.",
)

STORY_REQUESTS: tuple[str, ...] = (
    "Tell me a story",
    "Tell me a story.",
    "Tell me a story!",
    "Tell a story.",
    "Can you tell me a story?",
    "Write a story.",
    "Write a short story.",
    "Tell me a short story.",
    "I want to hear a story.",
    "Once upon a time",
    "Give me a story.",
    "Write me a story",
    "Do you know a story?",
    "Story, please.",
)

STORY_REQUESTS_ABOUT: tuple[str, ...] = (
    "Tell me a story about a {}.",
    "Write a story about a {}.",
    "Write a short story about a {}",
    "Tell me a short story about a {}.",
    "Can you tell me a story about a {}?",
)


def story(rng: random.Random, hero: str | None = None) -> str:
    """Tell a story of five or six sentences.

    Args:
        rng: source of the choices.
        hero: who the story is about; any of `HEROES` where not given.
    """
    name = rng.choice(_NAMES)
    kind = hero or rng.choice(HEROES)
    parts = [
        f"Once upon a time, there was a {rng.choice(_QUALITIES)} {kind} named {name} "
        f"who lived {rng.choice(_PLACES)}.",
        f"One day, {name} found {rng.choice(_THINGS)}.",
        f"{name} was {rng.choice(_FEELINGS)} and {rng.choice(_PLANS)}.",
        rng.choice(_TURNS).format(name=name),
        rng.choice(_ENDS).format(name=name),
    ]
    return " ".join(parts)
