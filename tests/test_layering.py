"""Who may import whom, read from the source: arrows point upstream only, and importing a module does nothing."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("curation", "alchemist_hub")
# The front rooms, and what both packages have to call by the same name: errors and column names.
SEEN_OF_CURATION = (
    "curation.dataset",
    "curation.recipes",
    "curation.review",
    "curation.judge",
    "curation.cli",
    "curation.errors",
    "curation.records",
)

# The floors of curation, lowest first: a room imports its own floor or one below.
ROOMS = (
    ("errors", "records"),
    ("images", "fetch", "shards", "degrade"),
    ("estimator",),
    ("stages",),
    ("plan", "sources", "verdicts"),
    ("ledger", "explain"),
    ("engines",),
    ("recipes", "dataset", "calibrate", "materialise", "fit_defects", "rates", "capacity", "review", "pack"),
    ("show", "judge"),
    ("cli",),
)
FLOORS = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}
# The one place that may import a package.
ONLY_IMPORTERS = {
    "ray": ("curation.engines.ray",),
    "gradio": ("alchemist_hub.ui",),
    "typer": ("curation.cli", "alchemist_hub.cli", "alchemist_hub.evaluation.cli", "alchemist_hub.publishing.cli"),
}
HUB_WRITES = {
    "HfApi",
    "add_collection_item",
    "create_branch",
    "create_collection",
    "create_commit",
    "create_repo",
    "create_tag",
    "delete_file",
    "delete_repo",
    "update_repo_settings",
    "upload_file",
    "upload_folder",
}
HUB_WRITER = "alchemist_hub.publishing.hub"


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources() -> dict[str, ast.Module]:
    """Every module of both packages: name -> syntax tree."""
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return {module_name(path): ast.parse(path.read_text(encoding="utf-8"), str(path)) for path in paths}


MODULES = sources()


def imported(module: str) -> Iterator[str]:
    """Yield the full name of everything that `module` imports, lazily or not: `a.b` and `a.b.name`."""
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively: write the module's full name"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def below(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def own_modules(module: str) -> set[str]:
    """The modules of this project that `module` imports."""
    names = (name if name in MODULES else name.rpartition(".")[0] for name in imported(module))
    return {name for name in names if name in MODULES and "." in name and name != module}


def test_both_packages_are_read() -> None:
    assert {"curation.records", "alchemist_hub.errors", "alchemist_hub.ui.demo"} <= MODULES.keys()


def test_curation_never_imports_alchemist_hub() -> None:
    wrong = [(module, name) for module in MODULES if below(module, "curation") for name in imported(module)]
    assert [pair for pair in wrong if below(pair[1], "alchemist_hub")] == []


def test_alchemist_hub_sees_curation_through_its_front_rooms() -> None:
    seen = [(module, name) for module in MODULES if below(module, "alchemist_hub") for name in imported(module)]
    through_walls = [
        (module, name)
        for module, name in seen
        if below(name, "curation") and name != "curation" and not below(name, *SEEN_OF_CURATION)
    ]
    assert through_walls == []


def test_rooms_of_curation_import_upstream_only() -> None:
    inside = [module for module in MODULES if below(module, "curation") and module != "curation"]
    assert {module.split(".")[1] for module in inside} <= FLOORS.keys()
    downstream = [
        (module, name)
        for module in inside
        for name in own_modules(module)
        if below(name, "curation") and FLOORS[name.split(".")[1]] > FLOORS[module.split(".")[1]]
    ]
    assert downstream == []


def test_no_module_imports_itself_in_a_circle() -> None:
    order = TopologicalSorter({module: own_modules(module) for module in MODULES}).static_order()
    assert set(order) >= MODULES.keys()


@pytest.mark.parametrize("package", ONLY_IMPORTERS)
def test_only_the_named_room_imports(package: str) -> None:
    importers = {module for module in MODULES if any(below(name, package) for name in imported(module))}
    assert [module for module in importers if not below(module, *ONLY_IMPORTERS[package])] == []


def test_only_one_module_writes_to_the_hub() -> None:
    writers = {
        module
        for module in MODULES
        for name in imported(module)
        if below(name, "huggingface_hub") and name.rpartition(".")[2] in HUB_WRITES
    }
    assert writers <= {HUB_WRITER}


INERT = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)


def is_inert(node: ast.stmt) -> bool:
    """Whether a top-level statement only names things: a docstring, an import, a definition, a constant."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if isinstance(node, ast.If):
        return ast.unparse(node.test) in ("TYPE_CHECKING", "__name__ == '__main__'")
    return isinstance(node, INERT)


def test_modules_hold_definitions_only() -> None:
    acting = [f"{module}:{node.lineno}" for module, tree in MODULES.items() for node in tree.body if not is_inert(node)]
    assert acting == []


IMPORT_ALL = """
import importlib, sys
others, own = sys.argv[1].split(","), sys.argv[2].split(",")
for name in others:  # what other packages do when imported is theirs
    try:
        importlib.import_module(name)
    except ImportError:
        pass
forbidden = {"os.mkdir", "os.rename", "os.remove", "socket.connect", "socket.getaddrinfo", "subprocess.Popen"}
seen = []
def watch(event, arguments):
    writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if writes or event in forbidden:
        seen.append((event, str(arguments[:2])))
sys.addaudithook(watch)
for name in own:
    importlib.import_module(name)
print(seen, end="")
"""


@pytest.mark.slow
def test_importing_every_module_touches_nothing(tmp_path: Path) -> None:
    foreign = {
        name
        for module in MODULES
        for name in imported(module)
        if name.split(".")[0] not in (*PACKAGES, "", "ray", *sys.stdlib_module_names)
    }
    run = subprocess.run(
        [sys.executable, "-B", "-c", IMPORT_ALL, ",".join(sorted(foreign)), ",".join(sorted(MODULES.keys()))],
        cwd=tmp_path,
        env={"PATH": "", "HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == "[]"
    assert list(tmp_path.glob("[!h]*")) == []


@pytest.mark.parametrize("arguments", [("--help",), ("curate", "--help"), ("demo", "--help")])
def test_help_loads_no_heavy_package(arguments: tuple[str, ...]) -> None:
    code = (
        "import sys; sys.argv = ['alchemist', *sys.argv[1:]]\n"
        "from alchemist_hub.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n"
        "    print(sorted({'torch', 'diffusers', 'transformers', 'gradio', 'cv2'} & set(sys.modules)), end.code)\n"
    )
    run = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.stdout.splitlines()[-1] == "[] 0", run.stdout + run.stderr
