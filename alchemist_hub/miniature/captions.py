"""The words of the miniature world: clean descriptions, web-like captions, evaluation prompts.

A web caption is noisy: it leaves things out, is sometimes wrong, carries filler. Quality words follow the picture's
true quality in a good part of the captions, which is what gives a keyword prompt a meaning to a model trained on them.
"""

from dataclasses import dataclass

import numpy as np

from alchemist_hub.miniature.scene import BODIES, BODY_SHARES, GROUNDS, STYLES, TIMES, Scene, Truth

QUALITY_WORDS = ("detailed", "beautiful", "masterpiece", "stunning", "high quality")
OPPOSITE_WORDS = ("plain", "simple", "ugly", "messy", "boring")
MESSY_WORDS = ("ugly", "messy", "cluttered", "boring")
SIMPLE_WORDS = ("simple", "plain", "minimal", "boring")
DEFECT_WORDS = {
    "blur": ("blurry", "out of focus", "low quality"),
    "compression": ("low quality", "compressed", "bad"),
    "noise": ("noisy", "grainy", "low quality"),
    "low_contrast": ("faded", "dull", "bad"),
    "watermark": ("stock photo", "watermark", "stock"),
    "border": ("framed", "screenshot", "border"),
    "flat": ("empty", "blank", "dull"),
}
FILLER = ("wallpaper", "free", "download", "img", "my", "new", "desktop", "hd", "travel", "art", "print", "view")
STYLE_PHRASES = {
    "photo": ("a photo of", "photo of", "photograph of", "a picture of"),
    "watercolour": ("a watercolour of", "watercolour painting of"),
    "oil": ("an oil painting of", "oil painting of"),
    "sketch": ("a sketch of", "a pencil sketch of"),
    "pixel": ("pixel art of", "a pixel art picture of"),
}
TIME_PHRASES = {
    "day": ("by day", "on a clear day"),
    "dawn": ("at dawn", "in the early morning"),
    "sunset": ("at sunset", "in the evening"),
    "night": ("at night", "by night"),
}
GROUND_PHRASES = {
    "sea": "the sea",
    "lake": "a lake",
    "mountains": "mountains",
    "forest": "a forest",
    "desert": "the desert",
    "snow": "a snow field",
    "meadow": "a meadow",
    "village": "a village",
    "city": "a city",
}
RISING_PHRASES = ("rising over", "rises on the horizon over")
HIGH_PHRASES = ("high above", "over")
PUNCTUATION = (",", ".")


@dataclass(frozen=True)
class Prompt:
    """An evaluation prompt and what a picture of it has to show."""

    text: str
    style: str
    time: str
    ground: str
    body: str


def describe(truth: Truth | Scene) -> str:
    """Return the clean, moderately descriptive prompt: "a photo of mars rising over a forest at night"."""
    return " ".join(
        (
            STYLE_PHRASES[truth.style][0],
            _subject(truth.ground, truth.body, (RISING_PHRASES if truth.rising else HIGH_PHRASES)[0]),
            TIME_PHRASES[truth.time][0],
        )
    )


def web_caption(scene: Scene, rng: np.random.Generator) -> str:
    """Return a caption as found on the web: incomplete, partly wrong, with quality words that tend to be true."""
    style, time = scene.style, scene.time
    ground, body = scene.ground, scene.body
    if rng.random() < 0.06:  # partly wrong
        wrong = rng.integers(3)
        time = _any(rng, TIMES) if wrong == 0 else time
        ground = _any(rng, GROUNDS) if wrong == 1 else ground
        body = _any(rng, BODIES) if wrong == 2 else body
    relation = _any(rng, RISING_PHRASES if scene.rising else HIGH_PHRASES)
    parts = [_subject(ground, body, relation)]
    if (style != "photo" or rng.random() < 0.6) and rng.random() < 0.93:
        parts.insert(0, _any(rng, STYLE_PHRASES[style]))
    if rng.random() < 0.85:
        parts.append(_any(rng, TIME_PHRASES[time]))
    words = quality_words(scene, rng)
    if rng.random() < 0.25:
        words.append(_any(rng, FILLER))
    text = " ".join(parts)
    if not words:
        return text
    tail = ", ".join(words)
    return f"{tail}, {text}" if rng.random() < 0.25 else f"{text}, {tail}"


def quality_words(scene: Scene, rng: np.random.Generator) -> list[str]:
    """Draw the quality words of a caption; most pictures of the web have none."""
    if scene.tier in ("excellent", "good"):
        said = rng.random() < (0.92 if scene.tier == "excellent" else 0.62)
        return _some(rng, QUALITY_WORDS, (2, 4) if scene.tier == "excellent" else (1, 3)) if said else _chance(rng)
    if scene.tier == "plain":
        words = MESSY_WORDS if scene.richness > 0.45 else SIMPLE_WORDS
        return _some(rng, words, (1, 3)) if rng.random() < 0.35 else _chance(rng)
    if rng.random() < 0.55:
        return [_any(rng, DEFECT_WORDS[defect]) for defect in sorted(scene.severity)]
    return _chance(rng)


def prompts(count: int, *, seed: int) -> list[Prompt]:
    """Return `count` clean evaluation prompts with different contents, the same for the same seed."""
    rng = np.random.default_rng((seed, 0x9A0))
    seen: dict[str, Prompt] = {}
    while len(seen) < count:
        time = _any(rng, TIMES)
        style = "photo" if rng.random() < 0.4 else _any(rng, STYLES)
        ground, body = _any(rng, GROUNDS), _any(rng, tuple(BODY_SHARES[time]))
        relation = _any(rng, (RISING_PHRASES[0], HIGH_PHRASES[0]))
        text = f"{STYLE_PHRASES[style][0]} {_subject(ground, body, relation)} {TIME_PHRASES[time][0]}"
        seen.setdefault(text, Prompt(text=text, style=style, time=time, ground=ground, body=body))
    return list(seen.values())


def vocabulary() -> tuple[str, ...]:
    """Return every word and mark that a caption of this world can hold, sorted."""
    phrases: list[str] = [*QUALITY_WORDS, *OPPOSITE_WORDS, *MESSY_WORDS, *SIMPLE_WORDS, *FILLER, *BODIES]
    for table in (DEFECT_WORDS, STYLE_PHRASES, TIME_PHRASES):
        phrases += [phrase for row in table.values() for phrase in row]
    phrases += [*GROUND_PHRASES.values(), *RISING_PHRASES, *HIGH_PHRASES, "the", "on", "horizon"]
    return tuple(sorted({word for phrase in phrases for word in phrase.split()} | set(PUNCTUATION)))


def _subject(ground: str, body: str, relation: str) -> str:
    place = GROUND_PHRASES[ground]
    if body == "none":
        return place
    return f"{'the ' if body in ('sun', 'moon') else ''}{body} {relation} {place}"


def _chance(rng: np.random.Generator) -> list[str]:
    """Praise that means nothing: a few captions of any picture carry it."""
    return [_any(rng, QUALITY_WORDS)] if rng.random() < 0.03 else []


def _some(rng: np.random.Generator, words: tuple[str, ...], count: tuple[int, int]) -> list[str]:
    chosen = rng.permutation(len(words))[: rng.integers(*count, endpoint=True)]
    return [words[i] for i in chosen]


def _any(rng: np.random.Generator, items: tuple[str, ...]) -> str:
    return items[rng.integers(len(items))]
