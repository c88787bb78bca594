"""A run as a process of its own, and what a test has to know to kill it or its workers."""

import os
import subprocess
import sys
import time
from pathlib import Path

TESTS = Path(__file__).parent
SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from toy_stages import recipe
from curation.engines import {engine} as engine
if __name__ == "__main__":
    engine.run(recipe(Path({log!r}), seconds=0.1), {pool!r}, {run!r}, workers=2)
"""


def start(tmp_path: Path, pool: Path, log: Path, *, engine: str = "embedded") -> subprocess.Popen:
    """Start a run of the toy recipe in `tmp_path`/run with two workers."""
    script = tmp_path / "script.py"
    names = {"tests": str(TESTS), "log": str(log), "pool": str(pool), "run": str(tmp_path / "run")}
    script.write_text(SCRIPT.format(engine=engine, **names))
    return subprocess.Popen(
        [sys.executable, str(script)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(condition, seconds=120):
    """Return when `condition()` holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def command(pid: int) -> str:
    """Return the command line of a process, empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def children(parent: int | None = None) -> list[int]:
    """Return the processes that `parent`, this one unless given, started."""
    found = []
    for task in Path(f"/proc/{parent or os.getpid()}/task").iterdir():
        found += [int(pid) for pid in (task / "children").read_text().split()]
    return found


def workers(parent: int) -> list[int]:
    """Return the worker processes of a run."""
    return [pid for pid in children(parent) if "spawn_main" in command(pid)]
