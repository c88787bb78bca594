import pytest
import torch

from alchemist_hub.training.hardware import Meter, card_memory, hardware, launched_processes

CPU, CARD = torch.device("cpu"), torch.device("cuda")


def test_the_energy_of_a_processor_says_that_its_watts_are_assumed():
    told = Meter(CPU).estimate(3600.0, processes=2)
    assert told["watts"] == 2 * 15 * torch.get_num_threads()
    assert told["kWh"] == pytest.approx(told["watts"] / 1000)
    assert told["watts are"].startswith("assumed")


def test_the_energy_of_a_card_is_what_it_told(monkeypatch: pytest.MonkeyPatch):
    readings = iter([200_000, 400_000])  # milliwatts
    monkeypatch.setattr(torch.cuda, "power_draw", lambda device: next(readings))
    meter = Meter(CARD)
    meter.read()
    meter.read()
    told = meter.estimate(7200.0, processes=1)
    assert (told["watts"], told["kWh"]) == (300.0, 0.6)
    assert "told" in told["watts are"]


def test_a_card_that_tells_nothing_has_no_energy(monkeypatch: pytest.MonkeyPatch):
    def missing(device):
        raise ModuleNotFoundError("pynvml")

    monkeypatch.setattr(torch.cuda, "power_draw", missing)
    meter = Meter(CARD)
    meter.read()
    assert meter.estimate(10.0, processes=1) == {"kWh": None, "watts": None, "watts are": "not told by the card"}


def test_a_processor_names_its_threads_and_has_no_card(monkeypatch: pytest.MonkeyPatch):
    assert hardware(CPU, 2).endswith(f"{2 * torch.get_num_threads()} threads")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert card_memory() is None


def test_processes_are_counted_as_their_launcher_says(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert launched_processes() == 1
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert launched_processes() == 4
