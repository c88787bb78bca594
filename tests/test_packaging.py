"""The package asks for what it imports, and the make targets are those the README names."""

import ast
import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
# Imported under another name than they are installed by.
MODULE_OF = {"opencv-python-headless": "cv2", "pillow": "PIL", "scikit-learn": "sklearn", "pyyaml": "yaml"}
OPTIONAL = {"ray", "pyiqa", "bitsandbytes", "xformers", "spaces"}  # a Space on ZeroGPU has `spaces`


def requirements(name: str) -> dict[str, Requirement]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    parsed = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    return {requirement.name.lower().replace("_", "-"): requirement for requirement in parsed}


def imported_packages() -> set[str]:
    """Top-level packages that either package imports, lazily or not, standard library aside."""
    names: set[str] = set()
    for path in (file for package in ("curation", "alchemist_hub") for file in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"curation", "alchemist_hub"}


def test_everything_imported_is_required() -> None:
    provided = {MODULE_OF.get(name, name.replace("-", "_")) for name in requirements("requirements.txt")}
    assert imported_packages() - OPTIONAL - provided == set()


def test_every_requirement_is_pinned_within_its_bounds() -> None:
    pins = requirements("constraints.txt")
    for name, requirement in requirements("requirements.txt").items():
        (pin,) = pins[name].specifier
        assert pin.operator == "==" and requirement.specifier.contains(pin.version), name


@pytest.mark.parametrize("target", ["app", "demo", "test", "lint", "bench"])
def test_makefile_has_the_target(target: str) -> None:
    assert re.search(rf"^{target}: \$\(VENV\)/(app|dev)\.stamp$", (ROOT / "Makefile").read_text(), re.MULTILINE)
