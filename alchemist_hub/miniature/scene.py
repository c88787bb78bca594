"""What a picture of the miniature world shows: the scene behind it, drawn from a seed, and its hidden truth.

Complexity and aesthetics are drawn first and independently of the subject; the renderer (`world.py`) then makes them
visible: complexity as layers, objects, texture and light; aesthetics as palette and composition. They are not the
same axis: cluttered ugly scenes and clean simple beautiful ones exist, so that no measure of texture alone can tell
the good pictures from the plain ones.
"""

from dataclasses import dataclass, field

import numpy as np

STYLES = ("photo", "watercolour", "oil", "sketch", "pixel")
TIMES = ("day", "dawn", "sunset", "night")
GROUNDS = ("sea", "lake", "mountains", "forest", "desert", "snow", "meadow", "village", "city")
BODIES = ("none", "sun", "moon", "mars", "saturn", "earth")
DEFECTS = ("blur", "compression", "noise", "low_contrast", "watermark", "border", "flat")
TIERS = ("excellent", "good", "plain", "degraded")

TIER_SHARES = (0.05, 0.10, 0.30, 0.55)
STYLE_SHARES = (0.52, 0.12, 0.12, 0.12, 0.12)
UNSAFE_SHARE = 0.04

# Bodies that suit each time of day, and how often: the sun never shines at night.
BODY_SHARES = {
    "day": {"none": 0.36, "sun": 0.30, "moon": 0.06, "mars": 0.08, "saturn": 0.10, "earth": 0.10},
    "dawn": {"none": 0.30, "sun": 0.34, "moon": 0.08, "mars": 0.09, "saturn": 0.09, "earth": 0.10},
    "sunset": {"none": 0.26, "sun": 0.38, "moon": 0.06, "mars": 0.12, "saturn": 0.09, "earth": 0.09},
    "night": {"none": 0.24, "moon": 0.28, "mars": 0.17, "saturn": 0.15, "earth": 0.16},
}


@dataclass(frozen=True)
class Truth:
    """The hidden truth of one picture. `complexity` and `aesthetics` are in [0,1], what its defects took is gone."""

    tier: str
    complexity: float
    aesthetics: float
    defects: tuple[str, ...]
    unsafe: bool
    style: str
    time: str
    ground: str
    body: str
    rising: bool = False
    group: int = -1  # near-duplicates share it; -1: the picture has none


@dataclass(frozen=True)
class Scene:
    """Everything the renderer needs. `richness` and `beauty` are what the picture would be without its defects."""

    seed: int
    tier: str
    style: str
    time: str
    ground: str
    body: str
    rising: bool
    richness: float
    beauty: float
    unsafe: bool
    severity: dict[str, float] = field(default_factory=dict)  # defect -> strength in (0,1]

    def truth(self) -> Truth:
        """Return the truth; a defect of full strength takes half of the aesthetics and a third of the complexity."""
        worst = max(self.severity.values(), default=0.0)
        return Truth(
            tier=self.tier,
            complexity=round(self.richness * (1 - 0.33 * worst), 4),
            aesthetics=round(self.beauty * (1 - 0.5 * worst), 4),
            defects=tuple(sorted(self.severity)),
            unsafe=self.unsafe,
            style=self.style,
            time=self.time,
            ground=self.ground,
            body=self.body,
            rising=self.rising,
        )


def draw_scene(rng: np.random.Generator, *, tier: str | None = None) -> Scene:
    """Draw one scene; `tier` fixes how good it is, otherwise it is as good as the web (`TIER_SHARES`)."""
    tier = tier or _pick(rng, TIERS, TIER_SHARES)
    time = _pick(rng, TIMES, (0.28, 0.20, 0.26, 0.26))
    shares = BODY_SHARES[time]
    body = _pick(rng, tuple(shares), tuple(shares.values()))
    richness, beauty = _quality(rng, tier)
    return Scene(
        seed=int(rng.integers(2**62)),
        tier=tier,
        style=_pick(rng, STYLES, STYLE_SHARES),
        time=time,
        ground=GROUNDS[rng.integers(len(GROUNDS))],
        body=body,
        rising=body != "none" and bool(rng.random() < 0.5),
        richness=richness,
        beauty=beauty,
        unsafe=bool(rng.random() < UNSAFE_SHARE),
        severity=_severity(rng) if tier == "degraded" else {},
    )


def _quality(rng: np.random.Generator, tier: str) -> tuple[float, float]:
    """Draw (richness, beauty) in [0,1]. Plain scenes are poor in one of them or in both."""
    if tier == "excellent":
        return float(rng.uniform(0.78, 1.0)), float(rng.uniform(0.80, 1.0))
    if tier == "good":
        return float(rng.uniform(0.52, 0.85)), float(rng.uniform(0.62, 0.88))
    if tier == "degraded":
        return float(rng.uniform(0.05, 0.95)), float(rng.uniform(0.05, 0.85))
    kind = rng.random()
    if kind < 0.40:  # plain in every way
        return float(rng.uniform(0.0, 0.35)), float(rng.uniform(0.1, 0.5))
    if kind < 0.75:  # cluttered and ugly
        return float(rng.uniform(0.55, 1.0)), float(rng.uniform(0.0, 0.35))
    return float(rng.uniform(0.0, 0.3)), float(rng.uniform(0.6, 0.95))  # clean, simple, fine colours


def _severity(rng: np.random.Generator) -> dict[str, float]:
    """Draw one or two defects with their strengths."""
    count = 1 if rng.random() < 0.75 else 2
    chosen = rng.choice(len(DEFECTS), size=count, replace=False, p=(0.22, 0.17, 0.17, 0.14, 0.13, 0.10, 0.07))
    return {DEFECTS[i]: float(rng.uniform(0.35, 1.0)) for i in chosen}


def _pick(rng: np.random.Generator, items: tuple[str, ...], shares: tuple[float, ...]) -> str:
    return items[
        int(np.searchsorted(np.cumsum(shares), rng.random() * sum(shares), side="right").clip(0, len(items) - 1))
    ]
