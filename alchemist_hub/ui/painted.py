"""Comparisons that were painted before, so that they answer at once: the latest in memory, the examples on disk.

What is kept is what the models really painted: the key holds the weights' files, the settings and the versions of the
libraries, so after any change the picture is painted anew. Prompts of visitors are never written to disk.
"""

import hashlib
import json
import os
import shutil
from collections import OrderedDict
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

from PIL import Image

from alchemist_hub.ui.live import SIDES, Settings, View
from alchemist_hub.ui.machine import cached_folder

IN_MEMORY, ON_DISK = 32, 64  # comparisons
LIBRARIES = ("torch", "diffusers", "transformers")
FACTS = "facts.json"


@dataclass(eq=False, kw_only=True)
class Painted:
    """Finished comparisons by `key`; `folder` None keeps nothing on disk."""

    folder: Path | None = None
    _views: OrderedDict[str, View] = field(default_factory=OrderedDict)

    def get(self, key: str) -> View | None:
        """Return the comparison, or None."""
        view = self._views.get(key) or self._read(key)
        if view is not None:
            self._remember(key, view)
        return view

    def keep(self, key: str, view: View, *, lasting: bool = False) -> None:
        """Keep a finished comparison, with `lasting` also on disk. A disk that takes nothing is no harm."""
        self._remember(key, view)
        if lasting and self.folder is not None and view.complete:
            try:
                self._write(self.folder, key, view)
            except OSError:
                return

    def _remember(self, key: str, view: View) -> None:
        self._views[key] = view
        self._views.move_to_end(key)
        while len(self._views) > IN_MEMORY:
            self._views.popitem(last=False)

    def _read(self, key: str) -> View | None:
        if self.folder is None:
            return None
        place = self.folder / key
        try:
            facts = json.loads((place / FACTS).read_text())
            pictures = {side: _picture(place / f"{side}.png") for side in SIDES}
            os.utime(place)
            return View(
                **pictures, painting=None, step=facts["steps"], seconds=tuple(facts["seconds"]),
                guarded=facts["guarded"],
            )  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError):  # not there, or not whole
            return None

    @staticmethod
    def _write(folder: Path, key: str, view: View) -> None:
        part = folder / f".{key}.{os.getpid()}.part"
        part.mkdir(parents=True, exist_ok=True)
        for side in SIDES:
            getattr(view, side).save(part / f"{side}.png")
        facts = {"steps": view.step, "seconds": view.seconds, "guarded": view.guarded}
        (part / FACTS).write_text(json.dumps(facts))
        shutil.rmtree(folder / key, ignore_errors=True)
        os.replace(part, folder / key)
        kept = sorted((place for place in folder.iterdir() if (place / FACTS).is_file()), key=_age)
        for old in kept[:-ON_DISK]:
            shutil.rmtree(old, ignore_errors=True)


def key_of(sources: tuple[str, ...], settings: Settings) -> str:
    """Return the name of a comparison: 32 hex digits over the files of `sources`, settings and library versions."""
    parts = [*map(_fingerprint, sources), asdict(settings), *map(version, LIBRARIES)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _fingerprint(source: str) -> str:
    """Return what changes when any file of a pipeline or filter does, without reading it: names, sizes, times."""
    folder = cached_folder(source) or Path(source)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    facts = [(path.relative_to(folder).as_posix(), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(json.dumps([str(folder), facts]).encode()).hexdigest()


def _picture(path: Path) -> Image.Image:
    with Image.open(path, formats=["PNG"]) as picture:
        return picture.convert("RGB")


def _age(place: Path) -> float:
    return place.stat().st_mtime
