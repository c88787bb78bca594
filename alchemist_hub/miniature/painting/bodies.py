"""Sun, moon and planets, with their glow."""

import numpy as np

from alchemist_hub.miniature.painting.canvas import Canvas

TALL = ("city", "forest", "mountains")  # they reach above the horizon: what rises there has to rise higher to be seen


def paint_body(canvas: Canvas) -> None:
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
