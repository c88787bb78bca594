"""ZeroGPU: nothing changes elsewhere, and what crosses to the borrowed process can."""

import pickle
import subprocess
import sys
from pathlib import Path

from PIL import Image

from alchemist_hub.models import MODELS
from alchemist_hub.ui.asked import example
from alchemist_hub.ui.live import View
from alchemist_hub.ui.zero import LONGEST, on_card, seconds_on_card

ROOT = Path(__file__).parents[3]


def test_outside_a_space_a_function_is_left_as_it_is() -> None:
    assert on_card(len, lambda text: 5) is len


def test_a_space_is_asked_for_as_long_as_a_call_needs(tmp_path: Path) -> None:
    (tmp_path / "spaces.py").write_text("def GPU(task, *, duration):\n    return task, duration\n")
    code = "from alchemist_hub.ui.zero import on_card; print(on_card(len, lambda text: 5)[1]('x'))"
    paths = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    run = subprocess.run([sys.executable, "-c", code], env=paths, capture_output=True, text=True, timeout=60)
    assert run.stdout == "5\n", run.stderr


def test_the_card_is_asked_for_longer_the_more_there_is_to_do_and_never_for_too_long() -> None:
    asked = [seconds_on_card(MODELS[key], MODELS[key].steps) for key in ("sd15", "sdxl", "sd35l")]
    assert asked == sorted(asked) and asked[-1] <= LONGEST
    assert seconds_on_card(MODELS["sdxl"], 10) < asked[1]


def test_questions_and_views_can_be_sent_to_another_process() -> None:
    settings, picture = example(MODELS["sdxl"]), Image.new("RGB", (8, 8), "navy")
    view = View(base=picture, tuned=None, hidden=("tuned",), painting=None)
    assert pickle.loads(pickle.dumps(settings)) == settings
    sent = pickle.loads(pickle.dumps(view))
    assert sent.hidden == ("tuned",) and sent.base.tobytes() == picture.tobytes()


def test_the_page_is_imported_without_the_packages_that_take_seconds() -> None:
    slow = "{'torch', 'diffusers', 'transformers'}"
    code = f"import sys, alchemist_hub.ui.demo; print(sorted({slow} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.stdout == "[]\n", run.stdout + run.stderr
