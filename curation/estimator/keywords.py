"""The words the estimator shows to a model: quality keywords, their alternatives, and controls that mean nothing.

A control goes through the same calibration as the keywords. Only what the keywords tell beyond it is their merit.
"""

from dataclasses import dataclass, replace

QUALITY = "quality"


@dataclass(frozen=True, kw_only=True)
class Keywords:
    """A quality prompt and its alternatives by role, such as {"simple": "plain, simple", "empty": ""}."""

    quality: str
    against: dict[str, str]

    def prompt(self, role: str) -> str:
        """Return the prompt of "quality" or of one of the alternatives."""
        return self.quality if role == QUALITY else self.against[role]

    def silenced(self) -> "Keywords":
        """Return the same roles with every prompt empty."""
        return replace(self, quality="", against=dict.fromkeys(self.against, ""))


@dataclass(frozen=True, kw_only=True)
class Family:
    """The keywords of one family of models, and lists of its words that have nothing to do with quality."""

    keywords: Keywords
    unrelated: Keywords

    def controls(self) -> dict[str, Keywords]:
        """Return what every figure of the keywords is shown beside."""
        return {"empty prompt": self.keywords.silenced(), "unrelated words": self.unrelated}


# ours: the paper says "a long multi-keyword quality prompt" and does not print it
STABLE_DIFFUSION = Family(
    keywords=Keywords(
        quality="highly detailed, intricate, complex composition, beautiful, aesthetic, masterpiece, professional "
        "photography, dramatic lighting, vivid colors, sharp focus, award winning, best quality",
        against={
            "simple": "plain, simple, minimal, empty, flat, boring, blank background",
            "ugly": "ugly, messy, cluttered, amateur snapshot, dull lighting, faded colors, blurry, worst quality",
            "empty": "",
        },
    ),
    unrelated=Keywords(
        quality="tuesday, invoice, seventeen, sideways, grandmother, paragraph, kilometre, perhaps, northern, "
        "borrowed, salary, verb",
        against={
            "simple": "thursday, receipt, forty, backwards, uncle, chapter, kilogram",
            "ugly": "although, southern, lent, rent, noun, spoon, eleven, mileage",
            "empty": "",
        },
    ),
)

# the small world's captions: its words of praise, of two kinds of blame, and the filler that falls on any picture
MINIATURE = Family(
    keywords=Keywords(
        quality="detailed, beautiful, masterpiece, stunning, high quality",
        against={"simple": "simple, plain, minimal, boring", "ugly": "ugly, messy, cluttered, boring", "empty": ""},
    ),
    unrelated=Keywords(
        quality="wallpaper, free, download, desktop, new",
        against={"simple": "travel, print, view", "ugly": "art, my, img", "empty": ""},
    ),
)

FAMILIES = {"stable-diffusion": STABLE_DIFFUSION, "miniature": MINIATURE}
