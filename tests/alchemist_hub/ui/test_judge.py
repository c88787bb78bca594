"""The Funnel tab and its judges through the API: counts, verdicts, refusals in one line, uploads that are gone."""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gradio as gr
import httpx
import numpy as np
import pytest
from gradio.utils import get_upload_folder
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from hostile_images import DAMAGED, bombs, impostors, truncated_files
from PIL import Image
from tiny_services import served, tiny_services

from alchemist_hub.miniature import world
from alchemist_hub.ui.demo import make_demo
from alchemist_hub.ui.funnel import thresholds
from alchemist_hub.ui.judge import as_json, verdict_page
from alchemist_hub.ui.services import Services
from alchemist_hub.ui.shown import ShownRun, shown_run
from curation.errors import LedgerError
from curation.judge import MOST_BYTES


@pytest.fixture(scope="module")
def shown() -> ShownRun:
    return shown_run()


@pytest.fixture(scope="module")
def services(shown: ShownRun, tmp_path_factory: pytest.TempPathFactory) -> Services:
    return replace(tiny_services(tmp_path_factory.mktemp("page")), funnel=shown)


@pytest.fixture(scope="module")
def client(services: Services) -> Iterator[Client]:
    with served(services) as address:
        yield Client(address, verbose=False)


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my picture.png"
    path.write_bytes(encoded(world.draw_sample(9, 4, tier="excellent").image))
    return path


def test_the_funnel_answers_with_counts(client: Client, shown: ShownRun) -> None:
    own, strict = client.predict({}, api_name="/funnel"), client.predict({"iqa": 0.9}, api_name="/funnel")
    assert (own["kept"], own["enters"], own["leaves"]) == (shown.review().before[-1].kept, 0, 0)
    assert strict["kept"] == own["kept"] and strict["enters"] == strict["leaves"] > 0
    assert [step["step"] for step in strict["steps"]][0] == "source"
    assert strict["thresholds"]["iqa"] == 0.9 and own["thresholds"]["iqa"] != 0.9


@pytest.mark.parametrize(
    "wrong",
    [
        {"iqa": "0.9; DROP TABLE samples"},
        {"iqa": 1e9},
        {"iqa": None},
        {"iqa": True},
        {"beauty": 1},
        ["iqa"],
        {"iqa": []},
    ],
)
def test_thresholds_that_are_none_are_refused_in_one_line(client: Client, wrong: object) -> None:
    with pytest.raises(AppError) as refused:
        client.predict(wrong, api_name="/funnel")
    assert "\n" not in str(refused.value) and "Error" not in str(refused.value)


def test_the_endpoint_judges_a_picture_as_the_jury_does(client: Client, shown: ShownRun, file: Path) -> None:
    told, heat = client.predict(handle_file(file), True, api_name="/judge")
    verdict = shown.jury().judge(file.read_bytes(), with_caption=True)
    assert told == as_json(verdict)
    assert told["caption"] == verdict.caption and len(told["caption"].split()) > 3
    assert told["kept"] == verdict.kept and told["step"] == verdict.step
    assert {each["column"] for each in told["checks"]} >= {"area", "unsafe", "iqa", "is_keeper", "impact_rank"}
    assert Image.open(heat).size == (384, 384)


def test_an_upload_is_gone_once_it_is_judged(client: Client, file: Path) -> None:
    file.write_bytes(encoded(world.draw_sample(9, 5).image))
    client.predict(handle_file(file), False, api_name="/judge")
    content = file.read_bytes()
    left = [
        path for path in Path(get_upload_folder()).rglob("*") if path.is_file() and path.stat().st_size == len(content)
    ]
    assert [path for path in left if path.read_bytes() == content] == []


def test_no_file_is_no_picture(client: Client) -> None:
    with pytest.raises(AppError, match="No picture arrived"):
        client.predict(None, False, api_name="/judge")


def test_hostile_uploads_are_refused_in_one_line_without_a_path(client: Client, tmp_path: Path) -> None:
    hostile = [
        *bombs(),
        *list(impostors())[:8],
        *list(truncated_files())[::19],
        ("big.png", bytes(MOST_BYTES + 9), DAMAGED),
    ]
    for name, data, fate in hostile:
        path = tmp_path / name
        path.write_bytes(data)
        if fate != DAMAGED:
            continue
        with pytest.raises(AppError) as refused:
            client.predict(handle_file(path), False, api_name="/judge")
        told = str(refused.value)
        assert "not judged" in told and "\n" not in told, (name, told)
        assert str(tmp_path) not in told and get_upload_folder() not in told and "Traceback" not in told


def test_a_photograph_is_met_with_a_plain_word(shown: ShownRun) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    verdict = shown.jury().judge(encoded(pixels, "JPEG"))
    page = verdict_page(verdict, lambda key: None, True)
    assert "larger than any these judges have seen" in page and "central square" in page
    assert "drawn world of 64 pixels" in shown.notice and "photograph" in shown.notice
    assert "Would be dropped at" in page and page.count("<figure>") == 3


def test_the_shipped_run_was_judged_by_the_shipped_models(shown: ShownRun) -> None:
    assert shown.jury().review is shown.review()


def test_judges_that_are_not_at_hand_are_one_line(shown: ShownRun, tmp_path: Path) -> None:
    from alchemist_hub.ui.judge import judged

    with pytest.raises(gr.Error, match="judges are not at hand"):
        judged(ShownRun(folder=shown.folder, models=tmp_path), encoded(np.zeros((64, 64, 3), np.uint8)), {}, False)


def test_a_folder_that_is_no_run_leaves_a_page_that_says_so(services: Services, tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="not a run folder"):
        shown_run(tmp_path)
    services = replace(services, funnel=ShownRun(folder=tmp_path, models=tmp_path))
    said = [block.value for block in make_demo(services).blocks.values() if isinstance(block, gr.HTML)]
    assert any("There is no run to show here" in str(value) for value in said)
    assert not any(str(tmp_path) in str(value) for value in said)


def test_no_funnel_service_no_tab(services: Services) -> None:
    page = make_demo(replace(services, funnel=None))
    labels = [block.label for block in page.blocks.values() if isinstance(block, gr.Tab)]
    assert "Funnel" not in labels and "Compare" in labels


def test_a_threshold_outside_its_range_is_refused(shown: ShownRun) -> None:
    controls = list(shown.review().controls)
    own = [control.rule.threshold for control in controls]
    assert thresholds(controls, tuple(own))["iqa"] == own[-2]
    for wrong in (None, "x", float("nan"), True, controls[0].high + 1):
        with pytest.raises(gr.Error, match="has to be between"):
            thresholds(controls, (wrong, *own[1:]))


def test_a_path_that_was_never_uploaded_is_neither_read_nor_deleted(client: Client, file: Path) -> None:
    for place in (str(file), f"{get_upload_folder()}/../{file.name}", "file://" + str(file)):
        data = {"data": [{"path": place, "meta": {"_type": "gradio.FileData"}}, False]}
        asked = httpx.post(f"{client.src}gradio_api/call/judge", json=data)
        told = asked.text
        if asked.is_success:
            told += httpx.get(f"{client.src}gradio_api/call/judge/{asked.json()['event_id']}", timeout=60).text
        assert '"kept"' not in told and "Traceback" not in told
        assert file.exists()
