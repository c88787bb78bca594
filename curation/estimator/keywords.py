"""The words the estimator shows to a model: quality keywords, their opposites, and controls that mean nothing.

A control goes through the same calibration as the keywords. Only what the keywords tell beyond it is their merit.
"""

from dataclasses import dataclass

QUALITY = "quality"
OPPOSITE = "opposite"
EMPTY = "empty"


@dataclass(frozen=True, kw_only=True)
class Keywords:
    """A prompt, its opposite and the prompt that says nothing."""

    quality: str
    opposite: str
    empty: str = ""

    def prompt(self, role: str) -> str:
        """Return the prompt of a role: "quality", "opposite" or "empty"."""
        return {QUALITY: self.quality, OPPOSITE: self.opposite, EMPTY: self.empty}[role]


@dataclass(frozen=True, kw_only=True)
class Family:
    """The keywords of one family of models, and two lists of its words that have nothing to do with quality."""

    keywords: Keywords
    unrelated: Keywords

    def controls(self) -> dict[str, Keywords]:
        """Return what every figure of the keywords is shown beside."""
        return {"empty prompt": Keywords(quality="", opposite=""), "unrelated words": self.unrelated}


# ours: the paper says "a long multi-keyword quality prompt" and does not print it
STABLE_DIFFUSION = Family(
    keywords=Keywords(
        quality="highly detailed, intricate, complex composition, beautiful, aesthetic, masterpiece, professional "
        "photography, dramatic lighting, vivid colors, sharp focus, award winning, best quality",
        opposite="plain, simple, empty, boring, ugly, amateur, dull flat lighting, faded colors, blurry, messy, "
        "snapshot, worst quality",
    ),
    unrelated=Keywords(
        quality="tuesday, invoice, seventeen, sideways, grandmother, paragraph, kilometre, perhaps, northern, "
        "borrowed, salary, verb",
        opposite="thursday, receipt, forty, backwards, uncle, chapter, kilogram, although, southern, lent, rent, noun",
    ),
)

# the small world's captions: its words of praise, their opposites, and the filler that falls on any picture
MINIATURE = Family(
    keywords=Keywords(
        quality="detailed, beautiful, masterpiece, stunning, high quality",
        opposite="plain, simple, ugly, messy, boring",
    ),
    unrelated=Keywords(quality="wallpaper, free, download, desktop, new", opposite="travel, art, print, view, my"),
)

FAMILIES = {"stable-diffusion": STABLE_DIFFUSION, "miniature": MINIATURE}
