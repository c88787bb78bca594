"""Paint a scene. Colours are RGB in [0,1], float32; coordinates are (x, y) in [0,1] with y downwards.

Everything is painted at twice the size and reduced at the end, which is the antialiasing. A picture depends only on
its scene; at another size it shows the same scene, with finer texture.
"""

import cv2
import numpy as np

from alchemist_hub.miniature.painting.bodies import paint_body
from alchemist_hub.miniature.painting.buildings import paint_city, paint_village
from alchemist_hub.miniature.painting.canvas import LIGHT, Canvas, fbm
from alchemist_hub.miniature.painting.finish import finish_light, paint_clutter, tilt
from alchemist_hub.miniature.painting.land import paint_desert, paint_forest, paint_meadow, paint_mountains, paint_snow
from alchemist_hub.miniature.painting.sky import paint_birds, paint_clouds, paint_sky, paint_stars
from alchemist_hub.miniature.painting.styles import STYLE_PAINTERS
from alchemist_hub.miniature.painting.water import paint_lake, paint_sea
from alchemist_hub.miniature.scene import Scene

OVERSAMPLING = 2
GROUND_PAINTERS = {
    "sea": paint_sea,
    "lake": paint_lake,
    "mountains": paint_mountains,
    "forest": paint_forest,
    "desert": paint_desert,
    "snow": paint_snow,
    "meadow": paint_meadow,
    "village": paint_village,
    "city": paint_city,
}


def render(scene: Scene, *, size: int) -> np.ndarray:
    """Paint `scene` without its defects: uint8 (size,size,3)."""
    canvas = _prepare(scene, size * OVERSAMPLING)
    paint_sky(canvas)
    if scene.time == "night":
        paint_stars(canvas)
    paint_body(canvas)
    paint_clouds(canvas)
    GROUND_PAINTERS[scene.ground](canvas)
    paint_birds(canvas)
    paint_clutter(canvas)
    finish_light(canvas)
    image = STYLE_PAINTERS[scene.style](tilt(canvas), canvas)
    small = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    return (small.clip(0, 1) * 255 + 0.5).astype(np.uint8)


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
