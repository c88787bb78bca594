"""What a run was computed on, and about how much energy that took."""

import os
import platform
from dataclasses import dataclass, field
from typing import Any

import torch

WATTS_A_CORE = 15  # assumed of a processor, which says nothing about itself: a server's power by its cores


def hardware(device: torch.device, processes: int) -> str:
    """Return the name of what computes."""
    if device.type == "cuda":
        return f"{processes} x {torch.cuda.get_device_name(device)}"
    return f"{platform.machine()}, {os.cpu_count()} cores, {processes * torch.get_num_threads()} threads"


def card_memory() -> int | None:
    """Return the bytes of this process's card, None where there is none."""
    return torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else None


def launched_processes() -> int:
    """Return how many processes `accelerate launch` or torchrun has started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@dataclass
class Meter:
    """Watts as the driver tells them, where it does; assumed for a processor."""

    device: torch.device
    watts: list[float] = field(default_factory=list)

    def read(self) -> None:
        """Take a reading; a card without its management library gives none."""
        if self.device.type == "cuda":
            try:
                self.watts.append(torch.cuda.power_draw(self.device) / 1000)
            except (ModuleNotFoundError, RuntimeError):
                return

    def estimate(self, seconds: float, processes: int) -> dict[str, Any]:
        """Return the energy of `seconds` in kilowatt hours, and where the watts come from."""
        if self.device.type == "cuda" and not self.watts:
            return {"kWh": None, "watts": None, "watts are": "not told by the card"}
        if self.device.type == "cuda":
            watts, origin = sum(self.watts) / len(self.watts), "the mean of what the card told, without its host"
        else:
            watts, origin = torch.get_num_threads() * WATTS_A_CORE, f"assumed: {WATTS_A_CORE} a thread"
        total = watts * processes
        return {"kWh": round(total * seconds / 3.6e6, 5), "watts": round(total, 1), "watts are": origin}
