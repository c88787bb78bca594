"""`alchemist app` as a process: it serves, and a user who interrupts it or names a taken port reads one line."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from run_process import wait_for

COMMAND = [sys.executable, "-m", "alchemist_hub", "app", "--port"]


def environment(folder: Path) -> dict[str, str]:
    return os.environ | {"ALCHEMIST_VOTES": str(folder / "votes"), "ALCHEMIST_CACHE": str(folder / "cache")}


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_server_without_complaints(told: signal.Signals, tmp_path: Path) -> None:
    port = free_port()
    server = subprocess.Popen(
        [*COMMAND, str(port)], env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        wait_for(lambda: answers(port) or server.poll() is not None)
        server.send_signal(told)
        _, complaints = server.communicate(timeout=120)
    finally:
        server.kill()
    assert server.returncode == 0
    assert "Traceback" not in complaints and "leaked" not in complaints
    assert (tmp_path / "votes" / "votes.sqlite").is_file()


@pytest.mark.slow
def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        run = subprocess.run(
            [*COMMAND, str(port)], env=environment(tmp_path), capture_output=True, text=True, timeout=120
        )
    assert run.returncode == 2
    assert run.stderr.splitlines() == [
        f"error: nothing can listen on port {port}: Address already in use; choose another one"
    ]
