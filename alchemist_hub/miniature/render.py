"""Paint a scene. Colours are RGB in [0,1], float32; coordinates are (x, y) in [0,1] with y downwards.

Everything is painted at twice the size and reduced at the end, which is the antialiasing. A picture depends only on
its scene; at another size it shows the same scene, with finer texture.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from alchemist_hub.miniature.scene import Scene

OVERSAMPLING = 2

# (zenith, middle, horizon) by time of day; the harmonious ones.
SKIES = {
    "day": (
        ((0.08, 0.32, 0.74), (0.32, 0.62, 0.94), (0.82, 0.92, 0.98)),
        ((0.05, 0.42, 0.72), (0.38, 0.74, 0.90), (0.96, 0.95, 0.86)),
        ((0.16, 0.36, 0.66), (0.46, 0.68, 0.90), (0.90, 0.92, 0.96)),
    ),
    "dawn": (
        ((0.46, 0.50, 0.78), (0.86, 0.70, 0.80), (1.00, 0.88, 0.76)),
        ((0.52, 0.56, 0.74), (0.94, 0.74, 0.72), (1.00, 0.90, 0.70)),
        ((0.40, 0.52, 0.72), (0.78, 0.72, 0.84), (0.98, 0.84, 0.84)),
    ),
    "sunset": (
        ((0.22, 0.10, 0.38), (0.80, 0.22, 0.34), (1.00, 0.66, 0.22)),
        ((0.30, 0.12, 0.40), (0.90, 0.34, 0.24), (1.00, 0.80, 0.36)),
        ((0.16, 0.12, 0.36), (0.70, 0.20, 0.40), (1.00, 0.54, 0.24)),
    ),
    "night": (
        ((0.02, 0.03, 0.12), (0.06, 0.09, 0.26), (0.14, 0.19, 0.40)),
        ((0.04, 0.02, 0.11), (0.12, 0.07, 0.26), (0.22, 0.16, 0.38)),
        ((0.01, 0.05, 0.10), (0.04, 0.13, 0.22), (0.10, 0.26, 0.36)),
    ),
}
LIGHT = {"day": (1.0, 1.0, 0.97), "dawn": (0.95, 0.84, 0.86), "sunset": (0.88, 0.60, 0.50), "night": (0.42, 0.48, 0.68)}
GROUND_COLOURS = {
    "sea": (0.06, 0.34, 0.58),
    "lake": (0.16, 0.42, 0.56),
    "mountains": (0.44, 0.42, 0.46),
    "forest": (0.09, 0.30, 0.14),
    "desert": (0.87, 0.65, 0.36),
    "snow": (0.93, 0.95, 0.99),
    "meadow": (0.33, 0.62, 0.18),
    "village": (0.45, 0.60, 0.24),
    "city": (0.34, 0.36, 0.42),
}
MUD = np.array((0.42, 0.40, 0.34), np.float32)


@dataclass
class Canvas:
    """The picture being painted and what the painters share."""

    image: np.ndarray  # (S,S,3)
    rng: np.random.Generator
    scene: Scene
    horizon: float
    light: np.ndarray  # (3,) colour of the light
    texture: np.ndarray  # (S,S) in [-1,1]
    ys: np.ndarray  # (S,1) pixel centres in [0,1]
    xs: np.ndarray  # (1,S)

    @property
    def side(self) -> int:
        return self.image.shape[0]

    def blend(self, mask: np.ndarray, colour: np.ndarray) -> None:
        """Lay `colour` ((3,) or (S,S,3)) over the picture where `mask` (broadcast to (S,S), [0,1]) says."""
        weight = np.broadcast_to(np.asarray(mask, np.float32), self.image.shape[:2])[..., None]
        change = np.asarray(colour, np.float32) - self.image
        change *= weight
        self.image += change

    def fill(self, shapes: list[np.ndarray], colour: np.ndarray, *, opacity: float = 1.0) -> None:
        """Fill polygons given in [0,1] coordinates, each (N,2), with one colour (3,)."""
        points = [np.round(shape * self.side).astype(np.int32) for shape in shapes]
        layer = self.image if opacity == 1.0 else self.image.copy()
        for polygon in points:
            cv2.fillPoly(layer, [polygon], tuple(map(float, colour)))
        if opacity < 1.0:
            cv2.addWeighted(layer, opacity, self.image, 1 - opacity, 0, dst=self.image)


def render(scene: Scene, *, size: int) -> np.ndarray:
    """Paint `scene` without its defects: uint8 (size,size,3)."""
    canvas = _prepare(scene, size * OVERSAMPLING)
    _paint_sky(canvas)
    if scene.time == "night":
        _paint_stars(canvas)
    _paint_body(canvas)
    _paint_clouds(canvas)
    GROUND_PAINTERS[scene.ground](canvas)
    _paint_birds(canvas)
    _paint_clutter(canvas)
    _finish_light(canvas)
    image = STYLE_PAINTERS[scene.style](_tilt(canvas), canvas)
    small = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    return (small.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def fbm(rng: np.random.Generator, side: int, *, octaves: int, start: int = 3, stretch: float = 1.0) -> np.ndarray:
    """Return fractal value noise (side,side), roughly in [-1,1]; `stretch` > 1 draws it out sideways."""
    total = np.zeros((side, side), np.float32)
    for octave in range(octaves):
        cells = start * 2**octave
        grid = rng.uniform(-1, 1, (cells + 1, max(2, round(cells / stretch) + 1))).astype(np.float32)
        total += cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC) * 0.55**octave
    return total / 1.4


def ridge(rng: np.random.Generator, side: int, *, octaves: int, start: int = 3) -> np.ndarray:
    """Return a 1-D outline (side,) in [0,1]."""
    total = np.zeros(side, np.float32)
    for octave in range(octaves):
        grid = rng.uniform(0, 1, (1, start * 2**octave + 2)).astype(np.float32)
        kind = cv2.INTER_CUBIC if octave == 0 else cv2.INTER_LINEAR
        total += cv2.resize(grid, (side, 1), interpolation=kind)[0] * 0.5**octave
    low, high = total.min(), total.max()
    return (total - low) / max(high - low, 1e-6)


def _prepare(scene: Scene, side: int) -> Canvas:
    rng = np.random.default_rng(scene.seed)
    beauty = scene.beauty
    fine = 0.60 + 0.10 * rng.uniform(-1, 1)  # near the lower third
    odd = rng.choice((0.42, 0.5, 0.78)) + 0.03 * rng.uniform(-1, 1)
    horizon = fine if rng.random() < 0.25 + beauty else odd
    steps = ((np.arange(side, dtype=np.float32) + 0.5) / side).astype(np.float32)
    light = np.array(LIGHT[scene.time], np.float32)
    texture = fbm(rng, side, octaves=4, start=4)
    image = np.empty((side, side, 3), np.float32)
    return Canvas(image, rng, scene, float(horizon), light, texture, steps[:, None], steps[None, :])


def _tone(canvas: Canvas, colour: tuple[float, float, float] | np.ndarray, *, lit: bool = True) -> np.ndarray:
    """Return a surface colour as this scene shows it: lit by its time of day, harmonious or not by its beauty."""
    rgb = np.array(colour, np.float32) * (canvas.light if lit else 1.0)
    lack = max(0.0, 0.75 - canvas.scene.beauty) / 0.75
    jitter = canvas.rng.uniform(-1, 1, 3).astype(np.float32)
    if canvas.scene.seed % 2:  # muddy: everything drifts towards one dull colour of its own brightness
        return rgb + (MUD * (0.35 + rgb.mean()) - rgb) * (0.62 * lack) + 0.02 * jitter
    clash = np.roll(rgb, 1 + int(jitter[0] > 0)) * (1.1 + 0.2 * jitter)  # clashing: each surface on its own
    return (rgb + (clash - rgb) * (0.52 * lack)).clip(0, 1)


def _paint_sky(canvas: Canvas) -> None:
    table = SKIES[canvas.scene.time]
    top, middle, low = (_sky_tone(canvas, c) for c in table[canvas.rng.integers(len(table))])
    depth = (canvas.ys / max(canvas.horizon, 0.3)).clip(0, 1)[..., None]
    upper = top + (middle - top) * (depth / 0.6).clip(0, 1)
    canvas.image[:] = upper + (low - upper) * ((depth - 0.6) / 0.4).clip(0, 1)
    if canvas.scene.richness > 0.4:  # air is never quite even
        canvas.image += (canvas.texture * 0.05 * canvas.scene.richness)[..., None] * low


def _sky_tone(canvas: Canvas, colour: tuple[float, float, float]) -> np.ndarray:
    """The sky keeps its time of day; lack of beauty greys it or makes it garish."""
    rgb = np.array(colour, np.float32)
    lack = max(0.0, 0.75 - canvas.scene.beauty) / 0.75
    gray = rgb.mean()
    if canvas.scene.seed % 2:
        return rgb + (gray * np.array((0.98, 0.98, 0.92), np.float32) - rgb) * (0.60 * lack)
    return (
        (gray + (rgb - gray) * (1 + 0.75 * lack) + 0.07 * lack * canvas.rng.uniform(-1, 1, 3))
        .clip(0, 1)
        .astype(np.float32)
    )


def _paint_stars(canvas: Canvas) -> None:
    rich, rng, side = canvas.scene.richness, canvas.rng, canvas.side
    count = int(6 + 70 * rich)
    x, y = rng.integers(0, side, count), (rng.uniform(0, canvas.horizon, count) * side).astype(int)
    canvas.image[y, x] = np.maximum(canvas.image[y, x], rng.uniform(0.5, 1.0, (count, 1)).astype(np.float32))
    bright = rng.random(count) < 0.3
    for dx, dy in ((1, 0), (0, 1), (1, 1)):
        canvas.image[(y[bright] + dy).clip(0, side - 1), (x[bright] + dx).clip(0, side - 1)] = 0.95
    if rich > 0.55:  # the milky way
        slope = rng.uniform(-0.8, 0.8)
        band = np.exp(-(((canvas.ys - 0.28) - slope * (canvas.xs - 0.5)) ** 2) / 0.012)
        glow = band * (0.5 + 0.8 * canvas.texture).clip(0, 1) * 0.55 * rich
        canvas.blend(glow.clip(0, 1), np.array((0.62, 0.55, 0.85), np.float32))


TALL = ("city", "forest", "mountains")  # they reach above the horizon: what rises there has to rise higher to be seen


def _paint_body(canvas: Canvas) -> None:
    scene, rng = canvas.scene, canvas.rng
    if scene.body == "none":
        return
    radius = rng.uniform(0.16, 0.22)
    x = (
        rng.choice((0.33, 0.67)) + 0.06 * rng.uniform(-1, 1)
        if rng.random() < 0.2 + scene.beauty
        else rng.uniform(0.1, 0.9)
    )
    y = (
        canvas.horizon - radius * (rng.uniform(0.30, 0.65) + (0.5 if scene.ground in TALL else 0.0))
        if scene.rising
        else rng.uniform(0.19, max(0.22, canvas.horizon - 1.55 * radius))
    )
    dx, dy = (canvas.xs - x) / radius, (canvas.ys - y) / radius
    distance = np.sqrt(dx * dx + dy * dy)
    disc = ((1.0 - distance) * radius * canvas.side * 0.7 + 0.5).clip(0, 1)
    if scene.body in ("sun", "moon") or scene.beauty > 0.6:
        _paint_glow(canvas, distance)
    BODY_PAINTERS[scene.body](canvas, dx, dy, distance, disc)


def _paint_glow(canvas: Canvas, distance: np.ndarray) -> None:
    strength = {"sun": 0.55, "moon": 0.30}.get(canvas.scene.body, 0.20) * (0.35 + 0.65 * canvas.scene.beauty)
    colour = {"sun": (1.0, 0.86, 0.5), "mars": (1.0, 0.5, 0.3), "earth": (0.5, 0.75, 1.0)}.get(
        canvas.scene.body, (0.9, 0.9, 0.85)
    )
    canvas.blend(strength * np.exp(-((distance - 1).clip(0, None)) / 0.9), np.array(colour, np.float32))


def _shade(canvas: Canvas, dx: np.ndarray, dy: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Return the brightness (S,S) of a lit ball: rich scenes model the light, poor ones show a flat disc."""
    lit = (0.75 - 0.35 * dx - 0.25 * dy) * np.sqrt((1.15 - distance**2).clip(0.08, 1))
    rich = canvas.scene.richness
    return (1 - 0.85 * rich) + 0.85 * rich * (lit * 1.35).clip(0.12, 1.2)


def _paint_sun(canvas: Canvas, dx: np.ndarray, dy: np.ndarray, distance: np.ndarray, disc: np.ndarray) -> None:
    colour = (1.0, 0.95, 0.62) if canvas.scene.time != "sunset" else (1.0, 0.88, 0.42)
    canvas.blend(disc, np.array(colour, np.float32))
    canvas.blend(disc * (0.5 - 0.5 * distance).clip(0, 1) * canvas.scene.richness, np.ones(3, np.float32))


def _paint_moon(canvas: Canvas, dx: np.ndarray, dy: np.ndarray, distance: np.ndarray, disc: np.ndarray) -> None:
    shade = _shade(canvas, dx, dy, distance)
    craters = (canvas.texture > 0.12) * (0.10 + 0.22 * canvas.scene.richness)
    colour = np.array((0.90, 0.90, 0.86), np.float32) * (shade * (1 - craters))[..., None]
    canvas.blend(disc, colour)


def _paint_mars(canvas: Canvas, dx: np.ndarray, dy: np.ndarray, distance: np.ndarray, disc: np.ndarray) -> None:
    shade = _shade(canvas, dx, dy, distance)
    dark = (canvas.texture > 0.1) * (0.12 + 0.28 * canvas.scene.richness)
    colour = np.array((0.88, 0.34, 0.16), np.float32) * (shade * (1 - dark))[..., None]
    cap = ((-dy - 0.72) * 6).clip(0, 1) * canvas.scene.richness
    canvas.blend(disc, colour + (np.float32(0.95) - colour) * cap[..., None])


def _paint_earth(canvas: Canvas, dx: np.ndarray, dy: np.ndarray, distance: np.ndarray, disc: np.ndarray) -> None:
    shade = _shade(canvas, dx, dy, distance)[..., None]
    land = _most(np.roll(canvas.texture, canvas.side // 3, axis=1), disc, share=0.40)[..., None]
    colour = np.where(land, np.array((0.22, 0.58, 0.24), np.float32), np.array((0.10, 0.34, 0.80), np.float32))
    clouds = np.roll(canvas.texture, canvas.side // 2, axis=0)
    cloud = _most(clouds, disc, share=0.06 + 0.14 * canvas.scene.richness)[..., None]
    colour = np.where(cloud, np.float32(0.95), colour) * shade
    canvas.blend(disc, colour.astype(np.float32))


def _most(texture: np.ndarray, disc: np.ndarray, *, share: float) -> np.ndarray:
    """Return where (S,S) the texture is among the highest `share` of the visible disc: never all of it or nothing."""
    inside = texture[disc > 0]
    return texture > (np.quantile(inside, 1 - share) if inside.size else np.inf)


def _paint_saturn(canvas: Canvas, dx: np.ndarray, dy: np.ndarray, distance: np.ndarray, disc: np.ndarray) -> None:
    shade = _shade(canvas, dx, dy, distance)
    bands = 1 - (0.06 + 0.16 * canvas.scene.richness) * (np.sin(dy * 11) > 0)
    ball = np.array((0.90, 0.76, 0.48), np.float32) * (shade * bands)[..., None]
    tilt = canvas.rng.uniform(-0.35, 0.35)
    rx, ry = dx * np.cos(tilt) + dy * np.sin(tilt), dy * np.cos(tilt) - dx * np.sin(tilt)
    ring_distance = np.sqrt(rx**2 + (ry / 0.30) ** 2)
    ring = ((ring_distance > 1.25) & (ring_distance < 1.85)).astype(np.float32)
    ring_colour = np.array((0.94, 0.84, 0.62), np.float32) * (0.75 if canvas.scene.time == "night" else 0.95)
    canvas.blend(ring * (ry < 0), ring_colour)
    canvas.blend(disc, ball)
    canvas.blend(ring * (ry >= 0), ring_colour)


BODY_PAINTERS = {
    "sun": _paint_sun,
    "moon": _paint_moon,
    "mars": _paint_mars,
    "earth": _paint_earth,
    "saturn": _paint_saturn,
}


def _paint_clouds(canvas: Canvas) -> None:
    scene, rng = canvas.scene, canvas.rng
    if scene.time == "night" or rng.random() > 0.25 + 0.6 * scene.richness:
        return
    white = {"day": (1.0, 1.0, 1.0), "dawn": (1.0, 0.90, 0.88), "sunset": (1.0, 0.62, 0.46)}[scene.time]
    colour = _sky_tone(canvas, white)
    if scene.richness > 0.4:
        field = fbm(rng, canvas.side, octaves=4, start=3, stretch=0.6)
        amount = ((field - 0.12) * 2.6).clip(0, 1) * ((canvas.horizon - canvas.ys) * 5).clip(0, 1)
        canvas.blend(0.85 * amount, colour - 0.25 * (0.4 - field[..., None]).clip(0, 0.4))
        return
    for _ in range(rng.integers(1, 4)):  # flat little ovals
        x, y, w = rng.uniform(0.1, 0.9), rng.uniform(0.06, canvas.horizon * 0.6), rng.uniform(0.08, 0.16)
        oval = ((canvas.xs - x) / w) ** 2 + ((canvas.ys - y) / (0.35 * w)) ** 2
        canvas.blend((oval < 1).astype(np.float32), colour)


def _land(canvas: Canvas, outline: np.ndarray, colour: np.ndarray, *, relief: float) -> None:
    """Fill below `outline` (S,) with `colour`; `relief` in [0,1] is how much texture and slope shading it shows."""
    mask = ((canvas.ys - outline[None, :]) * canvas.side * 0.7 + 0.5).clip(0, 1)
    slope = cv2.blur(np.gradient(outline)[None, :] * canvas.side, (7, 1)).clip(-1, 1)
    depth = ((canvas.ys - outline[None, :]) / max(1 - canvas.horizon, 0.1)).clip(0, 1)
    shade = 1 + relief * (0.34 * canvas.texture - 0.22 * slope - 0.25 * depth)
    canvas.blend(mask, (colour * shade[..., None]).clip(0, 1))


def _hills(
    canvas: Canvas, colour: tuple[float, float, float], *, amplitude: float, octaves: int, layers: int
) -> np.ndarray:
    """Paint `layers` ridges from far to near, far ones paler; return the outline of the nearest."""
    outline = np.full(canvas.side, canvas.horizon, np.float32)
    far = canvas.image[int(canvas.horizon * canvas.side) - 1].mean(0)
    for layer in range(layers):
        near = (layer + 1) / layers
        rise = amplitude * (1 - 0.45 * layer / layers)
        outline = (
            canvas.horizon
            + 0.22 * layer / layers
            - rise * ridge(canvas.rng, canvas.side, octaves=octaves)
            + 0.3 * amplitude
        )
        haze = (1 - near) * 0.55 * (0.4 + 0.6 * canvas.scene.beauty)
        shown = _tone(canvas, colour)
        _land(canvas, outline, shown + (far - shown) * haze, relief=0.15 + 0.85 * canvas.scene.richness)
    return outline


def _layers(canvas: Canvas) -> int:
    return 1 + int(canvas.scene.richness * 2.99)


def _paint_meadow(canvas: Canvas) -> None:
    outline = _hills(canvas, GROUND_COLOURS["meadow"], amplitude=0.09, octaves=2, layers=_layers(canvas))
    _paint_flowers(canvas, outline)
    for _ in range(int(canvas.scene.richness * 4)):
        _round_tree(canvas, canvas.rng.uniform(0.05, 0.95), outline, canvas.rng.uniform(0.05, 0.09))


def _paint_flowers(canvas: Canvas, outline: np.ndarray) -> None:
    count = int(60 * max(0.0, canvas.scene.richness - 0.25))
    x = canvas.rng.integers(0, canvas.side - 1, count)
    y = (
        (canvas.rng.uniform(min(float(outline.max()) + 0.03, 0.96), 1.0, count) * canvas.side)
        .astype(int)
        .clip(0, canvas.side - 2)
    )
    colours = np.array(((0.95, 0.85, 0.2), (0.95, 0.95, 0.95), (0.9, 0.3, 0.35)), np.float32) * canvas.light
    for step in ((0, 0), (0, 1), (1, 0), (1, 1)):
        canvas.image[y + step[0], x + step[1]] = colours[canvas.rng.integers(0, 3, count)]


def _round_tree(canvas: Canvas, x: float, outline: np.ndarray, radius: float) -> None:
    base = float(outline[int(x * (canvas.side - 1))]) + canvas.rng.uniform(0.01, 0.12)
    trunk = np.array(((x - 0.012, base), (x + 0.012, base), (x + 0.012, base - radius), (x - 0.012, base - radius)))
    canvas.fill([trunk], _tone(canvas, (0.35, 0.22, 0.12)))
    ball = ((canvas.xs - x) / radius) ** 2 + ((canvas.ys - base + 1.6 * radius) / (1.1 * radius)) ** 2
    shade = 1 + 0.5 * canvas.texture - 0.3 * (canvas.xs - x) / radius
    canvas.blend((ball < 1).astype(np.float32), (_tone(canvas, (0.16, 0.42, 0.14)) * shade[..., None]).clip(0, 1))


def _firs(
    canvas: Canvas, outline: np.ndarray, *, count: int, height: tuple[float, float], colour: np.ndarray, drop: float
) -> None:
    """Plant conifers of `count` random places along `outline`, up to `drop` below it."""
    rng = canvas.rng
    for x in np.sort(rng.uniform(0, 1, count)):
        tall = rng.uniform(*height)
        base = float(outline[int(x * (canvas.side - 1))]) + rng.uniform(0.0, drop) + 0.02
        wide = tall * 0.30
        tiers = [
            np.array(((x, base - tall), (x + wide * w, base - tall * b), (x - wide * w, base - tall * b)))
            for w, b in ((0.55, 0.60), (0.80, 0.30), (1.0, 0.0))
        ]
        tone = colour * rng.uniform(0.75, 1.2)
        canvas.fill(tiers, tone)
        if canvas.scene.richness > 0.6:
            lit = tiers[2].copy()
            lit[1, 0] = x - wide * 0.2
            canvas.fill([lit], tone * 1.5, opacity=0.35)


def _paint_forest(canvas: Canvas) -> None:
    colour = np.array(GROUND_COLOURS["forest"], np.float32)
    rows = 1 + _layers(canvas)
    far = canvas.image[int(canvas.horizon * canvas.side) - 1].mean(0)
    for row in range(rows):
        near = (row + 1) / rows
        outline = canvas.horizon + 0.05 + 0.30 * row / rows - 0.06 * ridge(canvas.rng, canvas.side, octaves=1)
        shown = _tone(canvas, colour)
        shown = shown + (far - shown) * (1 - near) * 0.5 * (0.3 + 0.7 * canvas.scene.beauty)
        _land(canvas, outline + 0.03, shown * 0.7, relief=0.6 * canvas.scene.richness)
        _firs(
            canvas,
            outline,
            count=int(9 + 8 * canvas.scene.richness),
            height=(0.14 + 0.05 * row, 0.24 + 0.06 * row),
            colour=shown,
            drop=0.03,
        )


def _paint_desert(canvas: Canvas) -> None:
    outline = _hills(canvas, GROUND_COLOURS["desert"], amplitude=0.13, octaves=1, layers=_layers(canvas))
    if canvas.scene.richness > 0.35:  # wind ripples
        wave = np.sin((canvas.ys * 60 + 6 * canvas.texture + 4 * np.sin(canvas.xs * 7)) * 2)
        below = (canvas.ys > outline[None, :] + 0.02).astype(np.float32)
        canvas.blend(below * (wave > 0.45) * 0.22 * canvas.scene.richness, _tone(canvas, (0.62, 0.40, 0.20)))
    for _ in range(canvas.rng.integers(1, 3 + int(2 * canvas.scene.richness))):
        _cactus(canvas, canvas.rng.uniform(0.08, 0.92), outline, canvas.rng.uniform(0.16, 0.26))


def _cactus(canvas: Canvas, x: float, outline: np.ndarray, tall: float) -> None:
    base = float(outline[int(x * (canvas.side - 1))]) + 0.10
    w = tall * 0.11
    boxes = (
        (x - w, base - tall, x + w, base),
        (x - 4 * w, base - 0.55 * tall, x, base - 0.42 * tall),
        (x - 4 * w, base - 0.8 * tall, x - 2.6 * w, base - 0.45 * tall),
    )
    shapes = [np.array(((x0, y0), (x1, y0), (x1, y1), (x0, y1))) for x0, y0, x1, y1 in boxes]
    canvas.fill(shapes, _tone(canvas, (0.18, 0.40, 0.18)))


def _paint_snow(canvas: Canvas) -> None:
    outline = _hills(canvas, GROUND_COLOURS["snow"], amplitude=0.10, octaves=1, layers=_layers(canvas))
    count = int(2 + 9 * canvas.scene.richness)
    _firs(canvas, outline, count=count, height=(0.10, 0.22), colour=_tone(canvas, (0.12, 0.26, 0.20)), drop=0.16)


def _paint_mountains(canvas: Canvas) -> None:
    side, rng, rich = canvas.side, canvas.rng, canvas.scene.richness
    layers = 1 + int(rich * 2.99)
    far = canvas.image[int(canvas.horizon * side) - 1].mean(0)
    for layer in range(layers):
        near = (layer + 1) / layers
        peaks = _peaks(rng, side, rough=0.2 + 0.8 * rich)
        outline = canvas.horizon + 0.14 - (0.46 - 0.16 * layer) * peaks
        shown = _tone(canvas, GROUND_COLOURS["mountains"])
        shown = shown + (far - shown) * (1 - near) * 0.5 * (0.3 + 0.7 * canvas.scene.beauty)
        _land(canvas, outline, shown, relief=0.2 + 0.8 * rich)
        line = outline[None, :] + 0.05 * canvas.texture + 0.10 * peaks[None, :] * (0.4 + 0.6 * rich)
        cap = ((canvas.ys > outline[None, :]) & (canvas.ys < line) & (peaks[None, :] > 0.55)).astype(np.float32)
        canvas.blend(cap * 0.9, _tone(canvas, (0.96, 0.97, 1.0)))
    foot = np.full(side, canvas.horizon + 0.22, np.float32) - 0.04 * ridge(rng, side, octaves=2)
    _land(canvas, foot, _tone(canvas, (0.22, 0.32, 0.20)), relief=0.3 + 0.7 * rich)
    if rich > 0.5:
        _firs(
            canvas, foot, count=int(14 * rich), height=(0.06, 0.13), colour=_tone(canvas, (0.08, 0.20, 0.12)), drop=0.1
        )


def _peaks(rng: np.random.Generator, side: int, *, rough: float) -> np.ndarray:
    """Return a jagged outline (S,) in [0,1]: straight slopes between a few summits, roughened."""
    count = rng.integers(4, 7)
    x = np.linspace(-0.1, 1.1, 2 * count + 1) + rng.uniform(-0.03, 0.03, 2 * count + 1)
    y = np.where(
        np.arange(2 * count + 1) % 2, rng.uniform(0.6, 1.0, 2 * count + 1), rng.uniform(0.05, 0.4, 2 * count + 1)
    )
    line = np.interp(np.linspace(0, 1, side), x, y) + rough * 0.09 * (ridge(rng, side, octaves=3, start=12) - 0.5)
    return line.astype(np.float32)


def _water(canvas: Canvas, colour: np.ndarray, *, mirror: float) -> None:
    """Paint water below the horizon: `mirror` in [0,1] of what stands above, rippled, over `colour`."""
    side, top = canvas.side, int(canvas.horizon * canvas.side)
    rows = np.arange(top, side)
    source = (2 * top - rows - 1).clip(0, top - 1)
    strength = 0.5 + 2.5 * canvas.scene.richness
    shift = (strength * np.sin(rows * 1.3 + 2 * canvas.rng.random()) * (rows - top) / max(side - top, 1)).astype(int)
    above = canvas.image[source[:, None], (np.arange(side)[None, :] + shift[:, None]) % side]
    depth = np.linspace(0, 1, len(rows), dtype=np.float32)[:, None, None]
    water = colour * (1.1 - 0.45 * depth)
    canvas.image[top:] = water + (above * 0.85 - water) * mirror
    wave = np.sin(canvas.ys[top:] ** 0.5 * 160 + 5 * canvas.texture[top:] + 9 * np.sin(canvas.xs * 5))
    crest = (wave > 0.55).astype(np.float32)[..., None] * (0.05 + 0.20 * canvas.scene.richness)
    canvas.image[top:] += (np.float32(0.9) * canvas.light - canvas.image[top:]) * crest * (0.3 + depth)


def _paint_sea(canvas: Canvas) -> None:
    _water(canvas, _tone(canvas, GROUND_COLOURS["sea"]), mirror=0.30)
    if canvas.scene.body in ("sun", "moon") and canvas.scene.richness > 0.35:
        _glitter(canvas)
    if canvas.rng.random() < 0.1 + 0.6 * canvas.scene.richness:
        _boat(canvas)


def _glitter(canvas: Canvas) -> None:
    """A path of light on the water below the brightest column of the sky."""
    top = int(canvas.horizon * canvas.side)
    column = int(cv2.blur(canvas.image[:top].mean(2).sum(0)[None, :], (15, 1)).argmax())
    width = 0.03 + 0.12 * (canvas.ys - canvas.horizon).clip(0, 1)
    path = np.exp(-(((canvas.xs - column / canvas.side) / width) ** 2)) * (canvas.ys > canvas.horizon)
    sparkle = (np.sin(canvas.ys * 210) + 1.5 * canvas.texture > 0.2).astype(np.float32)
    canvas.blend((path * sparkle * 0.7).astype(np.float32), np.array((1.0, 0.92, 0.72), np.float32))


def _paint_lake(canvas: Canvas) -> None:
    rich = canvas.scene.richness
    shore = canvas.horizon - 0.15 * ridge(canvas.rng, canvas.side, octaves=1 + int(3 * rich)) - 0.02
    mask = ((canvas.ys - shore[None, :]) * canvas.side * 0.7 + 0.5).clip(0, 1)
    tone = _tone(canvas, (0.24, 0.38, 0.28))
    canvas.blend(mask, (tone * (1 + rich * 0.4 * canvas.texture)[..., None]).clip(0, 1))
    if rich > 0.4:
        _firs(
            canvas,
            np.full(canvas.side, canvas.horizon - 0.03, np.float32),
            count=int(12 * rich),
            height=(0.06, 0.12),
            colour=tone * 0.6,
            drop=0.01,
        )
    _water(canvas, _tone(canvas, GROUND_COLOURS["lake"]), mirror=0.68)
    bank = 0.97 - 0.10 * ridge(canvas.rng, canvas.side, octaves=2, start=2)
    _land(canvas, bank, _tone(canvas, (0.30, 0.46, 0.20)), relief=0.2 + 0.8 * rich)
    if canvas.rng.random() < 0.5 * rich:
        _boat(canvas)


def _boat(canvas: Canvas) -> None:
    x, y = canvas.rng.uniform(0.15, 0.85), canvas.horizon + canvas.rng.uniform(0.06, 0.16)
    s = canvas.rng.uniform(0.06, 0.10)
    hull = np.array(((x - s, y), (x + s, y), (x + 0.6 * s, y + 0.4 * s), (x - 0.6 * s, y + 0.4 * s)))
    sail = np.array(((x, y - 0.1 * s), (x, y - 1.9 * s), (x + 0.9 * s, y - 0.1 * s)))
    canvas.fill([hull], _tone(canvas, (0.50, 0.22, 0.14)))
    canvas.fill([sail], _tone(canvas, (0.98, 0.96, 0.90)))


def _paint_village(canvas: Canvas) -> None:
    outline = _hills(canvas, GROUND_COLOURS["village"], amplitude=0.07, octaves=2, layers=_layers(canvas))
    count = 2 + int(canvas.scene.richness * 5)
    depths = np.sort(canvas.rng.uniform(0.0, 0.22, count))
    for depth in depths:
        _house(canvas, canvas.rng.uniform(0.08, 0.92), outline, depth)


def _house(canvas: Canvas, x: float, outline: np.ndarray, depth: float) -> None:
    rng, rich = canvas.rng, canvas.scene.richness
    wide = rng.uniform(0.055, 0.08) * (1 + 2 * depth)
    base = float(outline[int(x * (canvas.side - 1))]) + depth + 0.05
    tall = wide * 1.3
    wall = np.array(((x - wide, base - tall), (x + wide, base - tall), (x + wide, base), (x - wide, base)))
    roof = np.array(((x - 1.25 * wide, base - tall), (x, base - tall - 1.1 * wide), (x + 1.25 * wide, base - tall)))
    canvas.fill([wall], _tone(canvas, (0.94, 0.86, 0.72)))
    canvas.fill([roof], _tone(canvas, (0.72, 0.22, 0.16)))
    if rich > 0.3:
        glow = np.array((1.0, 0.84, 0.40) if canvas.scene.time != "day" else (0.30, 0.34, 0.42), np.float32)
        panes = [
            np.array(
                (
                    (x + s - 0.2 * wide, base - 0.85 * tall),
                    (x + s + 0.2 * wide, base - 0.85 * tall),
                    (x + s + 0.2 * wide, base - 0.45 * tall),
                    (x + s - 0.2 * wide, base - 0.45 * tall),
                )
            )
            for s in (-0.5 * wide, 0.5 * wide)
        ]
        canvas.fill(panes, glow)
    if rich > 0.6:
        side_wall = np.array(
            ((x + 0.45 * wide, base - tall), (x + wide, base - tall), (x + wide, base), (x + 0.45 * wide, base))
        )
        canvas.fill([side_wall], np.zeros(3, np.float32), opacity=0.22)


def _paint_city(canvas: Canvas) -> None:
    rng, rich = canvas.rng, canvas.scene.richness
    _land(
        canvas,
        np.full(canvas.side, canvas.horizon + 0.12, np.float32),
        _tone(canvas, (0.24, 0.24, 0.27)),
        relief=0.2 + 0.6 * rich,
    )
    rows = 1 + int(rich * 1.99)
    far = canvas.image[int(canvas.horizon * canvas.side) - 1].mean(0)
    for row in range(rows):
        near = (row + 1) / rows
        x = -0.05
        while x < 1.0:
            wide = rng.uniform(0.09, 0.17)
            top = canvas.horizon + 0.10 * row - rng.uniform(0.08, 0.36)
            shown = _tone(canvas, GROUND_COLOURS["city"]) * rng.uniform(0.75, 1.15)
            _tower(canvas, x, x + wide, top, shown + (far - shown) * (1 - near) * 0.45)
            x += wide + rng.uniform(-0.01, 0.03)


def _tower(canvas: Canvas, left: float, right: float, top: float, colour: np.ndarray) -> None:
    side, rich = canvas.side, canvas.scene.richness
    x0, x1, y0 = (int(max(0, v) * side) for v in (left, right, top))
    block = canvas.image[y0:, x0:x1]
    if block.size == 0:
        return
    block[:] = colour * np.linspace(1.08, 0.92 if rich > 0.5 else 1.08, block.shape[1], dtype=np.float32)[None, :, None]
    if rich < 0.25:
        return
    lamp = np.array((1.0, 0.86, 0.45) if canvas.scene.time in ("night", "sunset") else (0.62, 0.72, 0.82), np.float32)
    cell = max(4, side // 21)
    rows, columns = block.shape[0] // cell, block.shape[1] // cell
    lit = np.kron(canvas.rng.random((rows, columns)) < 0.25 + 0.45 * rich, _pane(cell))
    area = block[: lit.shape[0], : lit.shape[1]]
    area += (lamp - area) * lit[..., None].astype(np.float32) * 0.85


def _pane(cell: int) -> np.ndarray:
    pane = np.zeros((cell, cell), bool)
    pane[cell // 3 :, cell // 3 :] = True
    return pane


GROUND_PAINTERS = {
    "sea": _paint_sea,
    "lake": _paint_lake,
    "mountains": _paint_mountains,
    "forest": _paint_forest,
    "desert": _paint_desert,
    "snow": _paint_snow,
    "meadow": _paint_meadow,
    "village": _paint_village,
    "city": _paint_city,
}


def _paint_birds(canvas: Canvas) -> None:
    if canvas.scene.time == "night" or canvas.rng.random() > canvas.scene.richness * 0.6:
        return
    for _ in range(canvas.rng.integers(2, 6)):
        x, y, s = (
            canvas.rng.uniform(0.08, 0.92),
            canvas.rng.uniform(0.08, canvas.horizon * 0.7),
            canvas.rng.uniform(0.018, 0.032),
        )
        wings = np.array(((x - s, y - 0.5 * s), (x, y), (x + s, y - 0.5 * s)))
        cv2.polylines(
            canvas.image,
            [np.round(wings * canvas.side).astype(np.int32)],
            False,
            (0.1, 0.1, 0.12),
            max(1, canvas.side // 100),
        )


def _paint_clutter(canvas: Canvas) -> None:
    """Poles, wires, boxes, signs: what makes a rich scene ugly."""
    amount = canvas.scene.richness - canvas.scene.beauty - 0.15
    if amount <= 0:
        return
    rng, side = canvas.rng, canvas.side
    for _ in range(int(2 + 9 * amount)):
        x, y, s = rng.uniform(0, 0.95), rng.uniform(canvas.horizon, 0.98), rng.uniform(0.03, 0.10)
        cv2.rectangle(
            canvas.image,
            (int(x * side), int((y - s) * side)),
            (int((x + s) * side), int(y * side)),
            tuple(map(float, rng.uniform(0.1, 0.9, 3) * (0.4 + 0.6 * canvas.light.mean()))),
            -1,
        )
    for _ in range(int(1 + 4 * amount)):
        x, top = rng.uniform(0.02, 0.98), rng.uniform(0.1, canvas.horizon)
        cv2.line(
            canvas.image,
            (int(x * side), int(top * side)),
            (int((x + rng.uniform(-0.03, 0.03)) * side), side),
            (0.16, 0.14, 0.13),
            max(1, side // 50),
        )
    for _ in range(int(3 * amount)):
        cv2.line(
            canvas.image,
            (0, int(rng.uniform(0.1, 0.5) * side)),
            (side, int(rng.uniform(0.1, 0.5) * side)),
            (0.15, 0.15, 0.15),
            max(1, side // 100),
        )


def _finish_light(canvas: Canvas) -> None:
    """Beautiful scenes get depth: a soft vignette and a warm gradient of light; others stay as flat as they are."""
    beauty = canvas.scene.beauty
    if beauty <= 0.55:
        return
    amount = (beauty - 0.55) / 0.45
    corner = (canvas.xs - 0.5) ** 2 + (canvas.ys - 0.5) ** 2
    canvas.image *= (1 - 0.55 * amount * corner)[..., None]
    warm = np.exp(-((canvas.ys - canvas.horizon) ** 2) / 0.02) * 0.14 * amount
    canvas.blend(warm, np.array((1.0, 0.86, 0.66), np.float32) * (0.55 + 0.45 * canvas.light))


def _tilt(canvas: Canvas) -> np.ndarray:
    """Return the picture, crooked where nobody took care."""
    lack = max(0.0, 0.5 - canvas.scene.beauty) * 2
    if canvas.rng.random() > lack:
        return canvas.image
    degrees = canvas.rng.choice((-1, 1)) * canvas.rng.uniform(4, 4 + 8 * lack)
    grow = 1.0 + 0.018 * abs(degrees)
    turn = cv2.getRotationMatrix2D((canvas.side / 2, canvas.side / 2), float(degrees), grow)
    return cv2.warpAffine(canvas.image, turn, (canvas.side, canvas.side), borderMode=cv2.BORDER_REFLECT)


def _photo(image: np.ndarray, canvas: Canvas) -> np.ndarray:
    return image


def _watercolour(image: np.ndarray, canvas: Canvas) -> np.ndarray:
    """Pale pigment that bleeds, darker at the edges of each wash, on paper that shows through."""
    soft = cv2.bilateralFilter(image.clip(0, 1), 5, 0.25, canvas.side / 40)
    wash = cv2.GaussianBlur(soft, (0, 0), canvas.side / 85)
    edge = np.abs(wash - cv2.GaussianBlur(wash, (0, 0), canvas.side / 28)).mean(2, keepdims=True)
    paper = 0.95 + 0.05 * canvas.texture[..., None]
    pigment = 0.78 + 0.14 * canvas.texture[..., None]
    return (paper + (wash - paper) * pigment - 0.9 * edge).clip(0, 1)


def _oil(image: np.ndarray, canvas: Canvas) -> np.ndarray:
    """Strokes: colours dragged along a flow, with ridges of paint."""
    byte = (image.clip(0, 1) * 255).astype(np.uint8)
    flat = cv2.medianBlur(byte, 2 * (canvas.side // 50) + 1).astype(np.float32) / 255
    stroke = fbm(canvas.rng, canvas.side, octaves=1, start=18, stretch=3.0)
    flat = (flat - 0.5) * 1.12 + 0.5
    return (flat * (1 + 0.20 * stroke[..., None]) + 0.03 * stroke[..., None]).clip(0, 1)


def _sketch(image: np.ndarray, canvas: Canvas) -> np.ndarray:
    """Pencil: outlines and hatched shadows; on clean paper where beautiful, smudged and gray where not."""
    byte = (image.clip(0, 1) * 255).astype(np.uint8)
    flat = cv2.medianBlur(byte, 2 * (canvas.side // 50) + 1)
    gray = flat.astype(np.float32) @ np.array((0.30, 0.59, 0.11), np.float32) / 255
    edges = (
        np.abs(cv2.morphologyEx(flat, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)).astype(np.float32)).max(2) / 255
    )
    lines = (1.1 - 3.4 * cv2.GaussianBlur(edges, (0, 0), canvas.side / 150)).clip(0.08, 1)
    beauty, rich = canvas.scene.beauty, canvas.scene.richness
    hatch = 0.5 + 0.5 * np.sin((canvas.xs + canvas.ys) * canvas.side * 0.32)
    shadow = (0.80 - gray).clip(0, 1) * (0.35 + 0.45 * beauty)
    tone = 1 - shadow * (1 - 0.45 * rich * hatch)
    paper = 0.70 + 0.28 * min(1.0, beauty / 0.6) + 0.16 * max(0.0, 0.6 - beauty) * canvas.texture
    tint = np.array((1.0, 0.985, 0.94) if beauty > 0.5 else (0.97, 0.97, 0.97), np.float32)
    return ((lines * tone * paper)[..., None] * tint).clip(0, 1)


def _pixel(image: np.ndarray, canvas: Canvas) -> np.ndarray:
    """Pixel art: a coarse grid and few colours."""
    cells = 16
    small = cv2.resize(image, (cells, cells), interpolation=cv2.INTER_AREA)
    small = np.round(small.clip(0, 1) * 9) / 9
    return cv2.resize(small, (canvas.side, canvas.side), interpolation=cv2.INTER_NEAREST)


STYLE_PAINTERS = {"photo": _photo, "watercolour": _watercolour, "oil": _oil, "sketch": _sketch, "pixel": _pixel}
