"""Who is compared: names as people give them -> checkpoints with how each is sampled, and the pairs to judge.

A name is a model key, a pipeline or run folder, a repository on the Hub, or a reference opponent's short name.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alchemist_hub.errors import EvaluationError, ModelError
from alchemist_hub.evaluation.results import BASE, TUNED, Sampling
from alchemist_hub.models import MODELS, ModelSpec, local_folder, pipeline_class, spec_of

OPPONENTS = {"flux": "black-forest-labs/FLUX.1-dev"}  # the paper's reference in Figure 5


@dataclass(frozen=True, kw_only=True)
class Side:
    """One checkpoint of a comparison."""

    name: str  # in the report
    folder: Path
    steps: int
    guidance: float

    @classmethod
    def of(cls, name: str, source: str | Path, *, steps: int | None = None, guidance: float | None = None) -> "Side":
        """Return a side that samples as its model does unless told otherwise. Raises ModelError."""
        folder = local_folder(source)
        usual = _usual(folder)
        return cls(
            name=name,
            folder=folder,
            steps=usual.steps if steps is None else steps,
            guidance=usual.guidance if guidance is None else guidance,
        )


@dataclass(frozen=True, kw_only=True)
class Contest:
    """Everyone who takes part, the base first, and who is held against whom."""

    sides: tuple[Side, ...]
    pairs: tuple[tuple[str, str], ...]  # (arm, opponent)
    opponents: tuple[str, ...] = ()  # those of the sides that are neither the base nor tuned from it
    key: str | None = None  # the model key that all sides but the opponents are like

    @classmethod
    def between(cls, *sides: Side, pairs: Sequence[tuple[str, str]] | None = None) -> "Contest":
        """Return a contest of sides that were made already: every other against the base unless `pairs` are given."""
        against_base = [(side.name, BASE) for side in sides if side.name != BASE]
        return cls(sides=sides, pairs=tuple(against_base if pairs is None else pairs))


def contest(
    base: str,
    tuned: str | None = None,
    *,
    arms: Sequence[str] = (),
    against: Sequence[str] = (),
    steps: int | None = None,
    guidance: float | None = None,
) -> Contest:
    """Return who takes part: a model key alone is its pair; `arms` and `against` are NAME=SOURCE or SOURCE.

    Each of the tuned is compared with the base, each arm also with the tuned, and each of the two with each
    opponent. Raises EvaluationError for names that clash or a base without its tuned side, ModelError for a source
    that is no checkpoint.
    """
    if tuned is None and base not in MODELS:
        raise EvaluationError(
            f"{base} against what? Name the tuned checkpoint too; alone stand the keys {', '.join(MODELS)}"
        )
    sources = {
        BASE: MODELS[base].base if base in MODELS else base,
        TUNED: _tuned(tuned or base),
        **_named(arms),
    }
    opponents = {name: OPPONENTS.get(source, source) for name, source in _named(against).items()}
    if clash := (set(_named(arms)) & {BASE, TUNED}) | (set(sources) & set(opponents)):
        raise EvaluationError(f"two sides are called {', '.join(sorted(clash))}: give one another name, as NAME=SOURCE")
    sides = tuple(
        Side.of(name, source, steps=steps, guidance=guidance) for name, source in (sources | opponents).items()
    )
    tuned_arms = [name for name in sources if name != BASE]
    return Contest(
        sides=sides,
        pairs=(
            *((arm, BASE) for arm in tuned_arms),
            *((TUNED, arm) for arm in tuned_arms if arm != TUNED),
            *((arm, opponent) for opponent in opponents for arm in sources),
        ),
        opponents=tuple(opponents),
        key=_key(sides[0].folder),
    )


def _tuned(source: str) -> str:
    return MODELS[source].tuned if source in MODELS else source


def _named(sources: Sequence[str]) -> dict[str, str]:
    """Return name -> source of NAME=SOURCE; a source alone is called by the end of its path."""
    found: dict[str, str] = {}
    for text in sources:
        name, equals, source = text.partition("=")
        source = source if equals else text
        name = name if equals else Path(text).name
        if not name or not source:
            raise EvaluationError(f"{text!r} names no checkpoint: expected NAME=SOURCE or SOURCE")
        if name in found:
            raise EvaluationError(f"two sides are called {name}: give one another name, as NAME=SOURCE")
        found[name] = _tuned(source)
    return found


def _key(folder: Path) -> str | None:
    spec = _spec(folder)
    return spec and spec.key


def _spec(folder: Path) -> ModelSpec | None:
    try:
        return spec_of(folder)
    except ModelError:  # a class that none of the models has
        return None


def _usual(folder: Path) -> Sampling:
    """Return how a pipeline samples unless told otherwise: its model's way, or what its class does by itself."""
    if spec := _spec(folder):
        return Sampling(steps=spec.steps, guidance=spec.guidance)
    import diffusers  # seconds to import

    name = pipeline_class(folder)
    if not hasattr(diffusers, name):
        raise ModelError(f"{folder} is a {name}, which this version of diffusers does not know; update it")
    parameters = inspect.signature(getattr(diffusers, name).__call__).parameters
    try:
        return Sampling(
            steps=parameters["num_inference_steps"].default, guidance=float(parameters["guidance_scale"].default)
        )
    except KeyError as error:
        raise ModelError(f"{folder} is a {name}, which is not sampled by steps and guidance") from error
