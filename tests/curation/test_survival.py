"""Nothing is lost, and nothing judged twice for good, whatever is killed and whenever."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from run_process import start, wait_for, workers
from toy_stages import recipe, write_pool

from curation import dataset
from curation.engines import embedded
from curation.ledger import Ledger

KILLS = 20
SEED = 20251124


def moments(log: Path) -> int:
    """How often a toy stage has opened or judged a row."""
    return len(log.read_text().splitlines()) if log.exists() else 0


def wait_until(process: subprocess.Popen, log: Path, moment: int) -> None:
    """Return at this moment of the log, or when the process has ended."""
    wait_for(lambda: moments(log) >= moment or process.poll() is not None)


def assert_same(run: Path, calm: Path) -> None:
    ledger, undisturbed = Ledger(run), Ledger(calm)
    assert ledger.scores() == undisturbed.scores()
    assert ledger.verdicts() == undisturbed.verdicts()
    assert set(Counter(ledger.scores()["img_key"].to_pylist()).values()) == {1}
    assert dataset.fingerprint(dataset.freeze(run)) == dataset.fingerprint(dataset.freeze(calm))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_twenty_kills_at_random_moments_change_neither_ledger_nor_data_set(tmp_path):
    pool, log, rng = write_pool(tmp_path / "pool", 200), tmp_path / "log", random.Random(SEED)
    victims = ["driver", "worker"] * (KILLS // 2)
    rng.shuffle(victims)
    process = start(tmp_path, pool, log)
    while victims:
        wait_until(process, log, moments(log) + rng.randint(1, 8))
        time.sleep(rng.uniform(0, 0.1))
        pids = [process.pid] if victims[-1] == "driver" else workers(process.pid)[:1]
        if pids and process.poll() is None:
            os.kill(pids[0], signal.SIGKILL)
            victims.pop()
            if pids == [process.pid]:
                process.wait()
        if process.poll() is not None:
            assert (tmp_path / "run" / "source.json").exists()
            process = start(tmp_path, pool, log)
    process.communicate(timeout=600)
    embedded.run(recipe(), pool, tmp_path / "run", workers=1)
    embedded.run(recipe(), pool, tmp_path / "calm", workers=1)
    assert_same(tmp_path / "run", tmp_path / "calm")
