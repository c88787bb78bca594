"""The claim: the app is there in 15 seconds, the first pair 8 seconds later, and a pair costs one denoiser more.

    python benchmarks/app.py [--rounds 3] [--chromium /usr/bin/chromium]

Each round starts `alchemist app` in a fresh process with an empty cache of painted examples and meets it with a real
browser on the same machine, so that what the browser takes is part of the figures: process start to the first answer of
the server, that to the first finished pair of the miniature, and, for a prompt of the visitor's own, the click to the
first preview and to the finished pair. Memory is what loading adds to a process that has imported everything: base
alone, its denoiser alone, the pair. Medians are judged. Writes `app-DATE.json` and `.md` beside this file.
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # the package, not this folder's curation.py

import argparse
import gc
import os
import resource
import socket
import statistics
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from datetime import date
from typing import Any

from alchemist_hub.evaluation.results import write_json
from alchemist_hub.models import model
from alchemist_hub.ui.asked import FIRST_SEED

GOALS = {"served": 15.0, "first pair": 8.0, "first preview": 1.0, "memory": 1.1}
FLAGS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking"]
PROMPT = "a photo of the moon over the sea at night"
PATIENCE = 300.0  # seconds
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}  # else freed memory stays resident
PARTS = ("base", "denoiser", "pair")
SEEN = """old => [...document.querySelectorAll('.picture img')].some(
  image => image.naturalWidth && image.offsetParent && !old.includes(image.src))"""
DONE = "seed => document.querySelector('#status')?.innerText.includes(`seed ${seed} `)"


def main() -> None:
    """Measure every round, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--load", choices=PARTS, help="load this here and print its bytes; for the script itself")
    options = parser.parse_args()
    if options.load:
        print(loaded_bytes(options.load))
        return
    found: dict[str, Any] = {"goals": GOALS, "cpus": os.cpu_count(), "load before": os.getloadavg()[0]}
    found["visits"] = [visit(options.chromium) for _ in range(options.rounds)]
    found["bytes"] = [{part: in_fresh_process(part) for part in PARTS} for _ in range(options.rounds)]
    found["load after"] = os.getloadavg()[0]
    stem = Path(__file__).with_name(f"app-{date.today()}")
    write_json(found, stem.with_suffix(".json"))
    stem.with_suffix(".md").write_text(markdown(found))
    print(markdown(found))


def visit(chromium: str) -> dict[str, float]:
    """Start the app, look at it with a browser, end it; return seconds."""
    from playwright.sync_api import sync_playwright

    address = f"http://127.0.0.1:{free_port()}"
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as cache:
        page = playwright.chromium.launch(executable_path=chromium, args=FLAGS).new_page()
        page.set_default_timeout(1000 * PATIENCE)
        folders = {"ALCHEMIST_CACHE": f"{cache}/painted", "ALCHEMIST_VOTES": f"{cache}/votes"}
        environment = os.environ | folders | {"PYTHONPATH": sys.path[0]}
        command = [sys.executable, "-m", "alchemist_hub", "app", "--port", address.rpartition(":")[2]]
        start = time.perf_counter()
        app = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            seconds = {"served": served(address, app) - start, "served, CPU": cpu_seconds(app)}
            seconds |= opening(page, address, start + seconds["served"])
            seconds["first pair, CPU"] = cpu_seconds(app) - seconds["served, CPU"]
            return seconds | own_prompt(page)
        finally:
            app.terminate()
            app.wait()


def served(address: str, app: subprocess.Popen) -> float:
    """Return the moment of the server's first good answer."""
    end = time.perf_counter() + PATIENCE
    while time.perf_counter() < end and app.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                if answer.status == 200:
                    return time.perf_counter()
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise SystemExit("the app did not answer")


def cpu_seconds(app: subprocess.Popen) -> float:
    """Return the CPU seconds that the app has used so far, all threads together."""
    fields = Path(f"/proc/{app.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def opening(page: Any, address: str, since: float) -> dict[str, float]:
    """Return the seconds from the first answer to the first picture and to the first pair on the page."""
    page.goto(address)
    page.wait_for_function(SEEN, arg=[], polling=50)
    first = time.perf_counter() - since
    page.wait_for_function(DONE, arg=FIRST_SEED, polling=50)
    return {"first picture of the opening pair": first, "first pair": time.perf_counter() - since}


def own_prompt(page: Any) -> dict[str, float]:
    """Return the seconds from the click to the first preview and to both pictures of a prompt not painted before."""
    page.fill("#prompt textarea", PROMPT)
    page.fill("#seed input", "12")
    page.locator("#seed input").press("Tab")
    old = page.evaluate("[...document.querySelectorAll('.picture img')].map(image => image.src)")
    start = time.perf_counter()
    page.click("#start")
    page.wait_for_function(SEEN, arg=old, polling=50)
    preview = time.perf_counter() - start
    page.wait_for_function(DONE, arg=12, polling=50)
    return {"first preview": preview, "own pair": time.perf_counter() - start}


def in_fresh_process(part: str) -> int:
    """Return `loaded_bytes` of a process that loads nothing else."""
    command = [sys.executable, __file__, "--load", part]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | ALLOCATOR)
    return int(run.stdout.splitlines()[-1])


def loaded_bytes(part: str) -> int:
    """Return what loading base, denoiser or pair of the miniature adds to this process, everything imported."""
    from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    from alchemist_hub import sampling

    spec = model("mini")
    imported = (AutoencoderKL, StableDiffusionPipeline, CLIPTextModel, CLIPTokenizer)
    before = resident()
    if part == "denoiser":
        kept: Any = UNet2DConditionModel.from_pretrained(spec.tuned, subfolder="unet").float()
    else:
        kept = sampling.load_pair(spec.base, spec.tuned) if part == "pair" else sampling.load(spec.base)
    gc.collect()
    after = resident()
    del kept, imported
    return after - before


def resident() -> int:
    """Return the bytes that this process holds in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def markdown(found: dict[str, Any]) -> str:
    """Return the results as a page."""
    memory = [row["pair"] / (row["base"] + row["denoiser"]) for row in found["bytes"]]
    rows = [
        ("process start to first answer, s", [row["served"] for row in found["visits"]], "served"),
        ("... CPU seconds of the app", [row["served, CPU"] for row in found["visits"]], ""),
        ("first answer to first picture, s", [row["first picture of the opening pair"] for row in found["visits"]], ""),
        ("first answer to first pair, s", [row["first pair"] for row in found["visits"]], "first pair"),
        ("... CPU seconds of the app", [row["first pair, CPU"] for row in found["visits"]], ""),
        ("own prompt: click to first preview, s", [row["first preview"] for row in found["visits"]], "first preview"),
        ("own prompt: click to both pictures, s", [row["own pair"] for row in found["visits"]], ""),
        ("memory of a pair over base plus one denoiser", memory, "memory"),
    ]
    mib = {part: statistics.median(row[part] for row in found["bytes"]) / 2**20 for part in PARTS}
    lines = [
        "# The app: start, first pair, memory",
        "",
        f"Medians of {len(found['visits'])} rounds on {found['cpus']} cores that other jobs shared (load average "
        f"{found['load before']:.1f} before, {found['load after']:.1f} after); the browser ran on the same machine.",
        "",
        "| what | median | smallest | largest | asked | |",
        "|---|---|---|---|---|---|",
        *(_row(*row, found["goals"]) for row in rows),
        "",
        f"In memory: base alone {mib['base']:.0f} MiB, one denoiser {mib['denoiser']:.0f} MiB, "
        f"pair {mib['pair']:.0f} MiB.",
        "",
    ]
    return "\n".join(lines)


def _row(what: str, values: list[float], goal: str, goals: dict[str, float]) -> str:
    middle = statistics.median(values)
    asked = f"{goals[goal]:g} | {'met' if middle <= goals[goal] else 'MISSED'}" if goal else " | "
    return f"| {what} | {middle:.2f} | {min(values):.2f} | {max(values):.2f} | {asked} |"


if __name__ == "__main__":
    main()
