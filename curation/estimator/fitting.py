"""Finding a calibration: which activations, statistics and timesteps tell good pictures from plain ones.

Every choice is made by cross-validation inside the calibration labels. Labels that are reported are never seen here:
they come in at `controls.py`, after everything is fixed.

Shapes: B pictures, F features.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import combinations

import numpy as np
from diffusers import DiffusionPipeline

from curation.errors import CalibrationError
from curation.estimator import score
from curation.estimator.attention import NORMS
from curation.estimator.calibration import ATTENTION, IMPACT, LIKELIHOOD, Calibration, Head, Term
from curation.estimator.denoiser import Denoiser, Token
from curation.estimator.keywords import Keywords
from curation.estimator.likelihood import Probe, Readings, measure
from curation.estimator.pipelines import denoiser_of
from curation.estimator.positions import Choice, choose_attention, kept_positions, shallowest

Progress = Callable[[int, int], None]
READ_TOKENS = ("start", "word", "end")  # padding positions are all alike and can dominate the norms
LIKELIHOOD_KINDS = ("ratio", "relative")


class Statistic(str, Enum):
    """What a calibration is for. One alone is chosen to be cheap alone: together, whole passes are paid for anyway."""

    ALL = "all"
    ATTENTION = "attention"
    LIKELIHOOD = "likelihood"


@dataclass(frozen=True, kw_only=True)
class Search:
    """What a calibration may choose from, and what it may spend."""

    statistic: Statistic = Statistic.ALL
    timesteps: tuple[int, ...] = (100, 200, 300, 400, 500, 600, 700, 800)
    contrasts: tuple[tuple[str, ...], ...] = ()  # sets of alternatives to try; (): each, each two, all
    roles: tuple[str, ...] = READ_TOKENS
    kept: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)  # positions a timestep
    ridges: tuple[float, ...] = (1.0, 3.0, 10.0, 30.0, 100.0)
    max_passes: int = 24  # forward passes a picture of the result
    slack: float = 0.002  # AUC given away for a cheaper probe
    standard_errors: float = 1.0  # of the best depth's AUC, given away for shorter passes; attention alone
    draws: int = 2
    noise_seed: int = 0
    folds: int = 5
    seed: int = 0
    batch: int | None = None  # pictures a pass; None: what the model's native size asks for

    def menus(self, keywords: Keywords) -> tuple[tuple[str, ...], ...]:
        """Return the sets of alternatives to try; attention alone asks none."""
        if self.statistic == Statistic.ATTENTION:
            return ((),)
        roles = tuple(keywords.against)
        sizes = sorted({1, min(2, len(roles)), len(roles)})
        return self.contrasts or tuple(menu for size in sizes for menu in combinations(roles, size))


DEFAULT_SEARCH = Search()


def calibrate(
    pipe: DiffusionPipeline | Denoiser,
    images: Sequence[np.ndarray],
    labels_B: np.ndarray,
    *,
    keywords: Keywords,
    search: Search = DEFAULT_SEARCH,
    progress: Progress = lambda done, total: None,
) -> Calibration:
    """Calibrate `pipe` on uint8 pictures (H, W, 3) with labels (True: good), hundreds of each.

    Raises CalibrationError if the labels are too few or of one kind, or the model's answers are not numbers.
    """
    labels_B = _checked(images, labels_B, search.folds)
    denoiser = denoiser_of(pipe)
    contrasts = tuple(dict.fromkeys(role for menu in search.menus(keywords) for role in menu))
    probe = Probe(
        keywords=keywords,
        timesteps=search.timesteps,
        contrasts=contrasts,
        draws=search.draws,
        noise_seed=search.noise_seed,
        image_size=denoiser.image_size,
        batch=search.batch or denoiser.batch,
    )
    tokens = [token for token in denoiser.tokens(keywords.quality) if token.role in search.roles]
    indices = [token.index for token in tokens]
    layers = _layers(denoiser, search)
    readings = measure(denoiser, probe, images, tokens=indices, layers=layers, progress=progress)
    found = fit(readings, probe, labels_B, tokens=tokens, model=denoiser.fingerprint(), search=search)
    return replace(found, precision=denoiser.precision)


def fit(
    readings: Readings, probe: Probe, labels_B: np.ndarray, *, tokens: Sequence[Token], model: str, search: Search
) -> Calibration:
    """Choose and weigh what `readings` of `probe` say about the labels.

    For attention alone their layers are in running order, and how deep the passes go is chosen too.
    """
    if not all(np.isfinite(values).all() for values in (readings.norms_BTNLK, *readings.statistics.values())):
        raise CalibrationError("the model answers with values that are not numbers; load it in float32")
    fold_B = score.folds(labels_B, count=search.folds, seed=search.seed)
    choice = None if search.statistic == Statistic.LIKELIHOOD else _choice(readings, labels_B, fold_B, search)
    statistics = _considered(readings, probe, choice, search.statistic)
    chosen = choose_probe(statistics, probe, labels_B, fold_B, search)
    names = {
        IMPACT: statistic_names(statistics, chosen.contrasts, chosen.timesteps),
        ATTENTION: [f"attention@{timestep}" for timestep in chosen.timesteps if choice],
        LIKELIHOOD: statistic_names(statistics, chosen.contrasts, chosen.timesteps, kinds=LIKELIHOOD_KINDS),
    }
    return Calibration(
        model=model,
        probe=chosen,
        norm=choice.norm if choice else NORMS[0],
        positions=tuple(
            position
            for timestep in (chosen.timesteps if choice else ())
            for position in kept_positions(
                readings, labels_B, tokens, timesteps=probe.timesteps, timestep=timestep, choice=choice
            )
        ),
        heads={column: fit_head(statistics, used, labels_B, fold_B, search) for column, used in names.items() if used},
        pictures={"high": int(labels_B.sum()), "low": int((~labels_B).sum())},
    )


def choose_probe(
    statistics: dict[str, np.ndarray], probe: Probe, labels_B: np.ndarray, fold_B: np.ndarray, search: Search
) -> Probe:
    """Return the cheapest probe whose cross-validated AUC is within `slack` of the best that fits `max_passes`."""
    tried: list[tuple[float, Probe]] = []
    for contrasts in search.menus(probe.keywords):
        smaller = replace(probe, contrasts=contrasts, timesteps=())
        while len(smaller.timesteps) < len(probe.timesteps):
            unused = [timestep for timestep in probe.timesteps if timestep not in smaller.timesteps]
            larger = [replace(smaller, timesteps=(*smaller.timesteps, timestep)) for timestep in unused]
            affordable = [candidate for candidate in larger if candidate.passes <= search.max_passes]
            if not affordable:
                break
            rated = [(_probe_auc(statistics, candidate, labels_B, fold_B), candidate) for candidate in affordable]
            auc, smaller = max(rated, key=lambda item: (item[0], item[1].timesteps))
            tried.append((auc, smaller))
    if not tried:
        raise CalibrationError(f"max_passes={search.max_passes} is less than one timestep costs; allow more passes")
    best = max(auc for auc, _ in tried)
    good = [(candidate.passes, -auc, candidate) for auc, candidate in tried if auc >= best - search.slack]
    chosen = min(good, key=lambda item: item[:2])[2]
    return replace(chosen, timesteps=tuple(sorted(chosen.timesteps)))


def statistic_names(
    statistics: dict[str, np.ndarray],
    contrasts: Sequence[str],
    timesteps: Sequence[int],
    *,
    kinds: Sequence[str] = (),
) -> list[str]:
    """Return the statistics of a probe, of all kinds unless some are named."""
    names = []
    for name in statistics:
        question, timestep = name.split("@")
        kind, _, role = question.partition("/")
        asked = kind in ("attention", "residual") or role in contrasts
        if int(timestep) in timesteps and asked and (not kinds or kind in kinds):
            names.append(name)
    return names


def fit_head(
    statistics: dict[str, np.ndarray], names: Sequence[str], labels_B: np.ndarray, fold_B: np.ndarray, search: Search
) -> Head:
    """Fit one score to all calibration labels, its ridge chosen by cross-validation."""
    x_BF = np.column_stack([statistics[name] for name in names])
    auc, ridge = max((score.cross_validated_auc(x_BF, labels_B, fold_B, ridge=r), r) for r in search.ridges)
    mean_F, std_F = x_BF.mean(axis=0), x_BF.std(axis=0)
    *weights, bias = score.fit_ridge_logistic(score.standardised(x_BF, mean_F, std_F), labels_B, ridge=ridge).tolist()
    terms = zip(names, mean_F.tolist(), std_F.tolist(), weights, strict=True)
    return Head(
        terms=tuple(Term(statistic=name, mean=mean, std=std, weight=weight) for name, mean, std, weight in terms),
        bias=bias,
        ridge=ridge,
        cross_validated_auc=auc,
    )


def _layers(denoiser: Denoiser, search: Search) -> dict[int, tuple[str, ...]] | None:
    """Return the layers to record by timestep, None: all, as the network names them."""
    if search.statistic == Statistic.ATTENTION:
        return dict.fromkeys(search.timesteps, denoiser.text_layers())
    return None if search.statistic == Statistic.ALL else {}


def _choice(readings: Readings, labels_B: np.ndarray, fold_B: np.ndarray, search: Search) -> Choice:
    """Return what to read of attention: from all layers, or alone, from as few of the first ones as will do."""
    count = len(readings.layers)
    if search.statistic == Statistic.ALL:
        return choose_attention(readings, labels_B, fold_B, search.kept, (count,))[count]
    choices = choose_attention(readings, labels_B, fold_B, search.kept, range(1, count + 1))
    return shallowest(choices, labels_B, standard_errors=search.standard_errors)


def _considered(
    readings: Readings, probe: Probe, choice: Choice | None, statistic: Statistic
) -> dict[str, np.ndarray]:
    """Return the statistics that the calibration may use."""
    attention = zip(probe.timesteps, choice.columns, strict=True) if choice else ()
    found = {f"attention@{timestep}": column_B for timestep, column_B in attention}
    if statistic == Statistic.LIKELIHOOD:
        names = statistic_names(readings.statistics, probe.contrasts, probe.timesteps, kinds=LIKELIHOOD_KINDS)
        return {name: readings.statistics[name] for name in names}
    return found if statistic == Statistic.ATTENTION else readings.statistics | found


def _checked(images: Sequence[np.ndarray], labels_B: np.ndarray, fold_count: int) -> np.ndarray:
    labels_B = np.asarray(labels_B, dtype=bool)
    if len(images) != len(labels_B):
        raise CalibrationError(f"{len(images)} pictures came with {len(labels_B)} labels; expected one each")
    fewest = min(int(labels_B.sum()), int((~labels_B).sum()))
    if fewest < 2 * fold_count:
        raise CalibrationError(
            f"the rarer label has {fewest} pictures; expected at least {2 * fold_count}, better hundreds of each"
        )
    return labels_B


def _probe_auc(
    statistics: dict[str, np.ndarray], probe: Probe, labels_B: np.ndarray, fold_B: np.ndarray, ridge: float = 10.0
) -> float:
    names = statistic_names(statistics, probe.contrasts, probe.timesteps)
    x_BF = np.column_stack([statistics[name] for name in names])
    return score.cross_validated_auc(x_BF, labels_B, fold_B, ridge=ridge)
