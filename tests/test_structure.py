"""The folder rule, and what `import execgraph` may cost."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import execgraph

ROOT = Path(execgraph.__file__).resolve().parent
FOLDERS = (
    "adapters",
    "engine",
    "invalidation",
    "graphstore",
)  # each may import what is to its right
# The rooms of a folder, likewise, and what all of them may use of the folder itself. What else
# stands in it may use all rooms.
ROOMS = {
    "engine": (
        "asking",
        "ending",
        "replay",
        "effects",
        "run",
        "lookup",
        "steps",
        "generalising",
        "sessions",
        "tools",
        "model",
        "keys",
        "outcome",
    ),
    "invalidation": ("files", "formats", "watching"),
}
SHARED = {
    "engine": {"errors", "exits", "spelling", "task", "transcript"},
    "invalidation": {"resources", "source"},
}
# What decides by facts alone, and all that it may import of the package.
PURE = {"invalidation/validity.py", "invalidation/impact.py"}
FACTS = {
    f"execgraph.{name}"
    for name in (
        "graphstore.document",
        "graphstore.errors",
        "graphstore.facts",
        "graphstore.model",
        "invalidation.validity",
    )
}
PLAIN = {"__future__", "collections", "dataclasses", "enum", "itertools", "math", "typing"}
TEST_TOOLS = {"_pytest", "hypothesis", "mypy", "pytest", "pytest_asyncio", "ruff", "unittest"}
HEAVY = ("anthropic", "genai_prices", "neo4j", "networkx", "starlette", "uvicorn")


def imports_of(path: Path, root: Path) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of everything that a module imports, wherever in it."""
    package = ("execgraph", *path.relative_to(root).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            kept = package[: len(package) - node.level + 1] if node.level else ()
            base = (*kept, *(node.module or "").split(".")) if node.module else kept
            yield from ((node.lineno, ".".join((*base, alias.name))) for alias in node.names)
        elif isinstance(node, ast.Call) and (name := _imported_by(node)):
            kept = package[: len(package) - _dots(name) + 1] if _dots(name) else ()
            yield node.lineno, ".".join((*kept, name.lstrip(".")))


def _imported_by(call: ast.Call) -> str | None:
    match call:
        case ast.Call(
            func=ast.Name("import_module" | "__import__") | ast.Attribute(attr="import_module"),
            args=[ast.Constant(str(name)), *_],
        ):
            return name
    return None


def _dots(name: str) -> int:
    return len(name) - len(name.lstrip("."))


def violations(root: Path) -> list[str]:
    """Every import in the package at `root` that breaks a rule, as `file:line: why`."""
    found = []
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            here, rooms = path.relative_to(root).as_posix(), path.relative_to(root).parts[1:-1]
            for line, name in imports_of(path, root):
                why = _broken_rule(folder, name) or _broken_room(folder, rooms, name)
                if why := why or _broken_promise(here, name):
                    found.append(f"{here}:{line}: {why}")
    return found


def _broken_rule(folder: str, name: str) -> str | None:
    top, _, rest = name.partition(".")
    if top == "execgraph":
        target = rest.partition(".")[0]
        if target not in FOLDERS:
            if folder == "adapters" or target == "__version__":
                return None
            return f"{folder} must not import {name} from the face, which leads to the left"
        if FOLDERS.index(target) < FOLDERS.index(folder):
            return f"{folder} must not import {target} ({name})"
    if top in TEST_TOOLS:
        return f"the package must not import the test tool {top}"
    return None


def _broken_room(folder: str, rooms: tuple[str, ...], name: str) -> str | None:
    prefix, _, rest = name.partition(f"execgraph.{folder}.")
    if folder not in ROOMS or not rooms or prefix or not rest:
        return None
    [room], target = rooms, rest.partition(".")[0]
    order = ROOMS[folder]
    if target in SHARED[folder] or (target in order and order.index(target) >= order.index(room)):
        return None
    return f"{folder}/{room} must not import {target} ({name})"


def _broken_promise(path: str, name: str) -> str | None:
    top, base = name.partition(".")[0], name.rpartition(".")[0]
    if top == "watchdog" and not path.startswith("invalidation/files/"):
        return f"only invalidation/files imports watchdog, not {path}"
    if path not in PURE or top in PLAIN or base in FACTS:
        return None
    return f"{path} decides by facts alone and must not import {name}"


@pytest.mark.parametrize("folder", ROOMS)
def test_the_rooms_of_a_folder_are_there_to_be_checked(folder: str) -> None:
    there = {it.parent.name for it in (ROOT / folder).glob("*/__init__.py")}
    assert there == set(ROOMS[folder])


def test_every_folder_and_room_is_shipped() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    there = {it.parent for folder in FOLDERS for it in (ROOT / folder).rglob("__init__.py")}
    names = {".".join(("execgraph", *it.relative_to(ROOT).parts)) for it in there}
    assert set(project["tool"]["setuptools"]["packages"]) == {"execgraph", *names}


def test_each_folder_imports_only_what_is_to_its_right() -> None:
    assert violations(ROOT) == []


def test_the_four_folders_are_there_to_be_checked() -> None:
    assert [folder for folder in FOLDERS if not (ROOT / folder / "__init__.py").exists()] == []


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("graphstore/a.py", "from ..engine.run import Run", "graphstore must not import engine"),
        ("graphstore/a.py", "from .. import engine", "graphstore must not import engine"),
        (
            "graphstore/sqlite/a.py",
            "from ...engine import run",
            "graphstore must not import engine",
        ),
        ("engine/a.py", "import execgraph.adapters.cli", "engine must not import adapters"),
        ("engine/keys/a.py", "from ..tools.tool import Tool", "engine/keys must not import tools"),
        ("engine/keys/a.py", "from ..host import Host", "engine/keys must not import host"),
        (
            "invalidation/watching/a.py",
            "from ..files.globs import Glob",
            "invalidation/watching must not import files",
        ),
        (
            "invalidation/formats/a.py",
            "from ..walker import Walker",
            "invalidation/formats must not import walker",
        ),
        ("invalidation/validity.py", "import asyncio", "must not import asyncio"),
        (
            "invalidation/impact.py",
            "from ..graphstore.store import GraphStore",
            "decides by facts alone",
        ),
        (
            "invalidation/a.py",
            "from execgraph.engine import x",
            "invalidation must not import engine",
        ),
        (
            "invalidation/a.py",
            "def f():\n    from ..adapters import cli",
            "must not import adapters",
        ),
        ("engine/a.py", "if TYPE_CHECKING:\n    from ..adapters.cli import x", "must not import"),
        ("engine/a.py", "import_module('..adapters.cli', __package__)", "must not import adapters"),
        (
            "engine/a.py",
            "importlib.import_module('execgraph.adapters')",
            "must not import adapters",
        ),
        ("engine/a.py", "from .. import Engine", "from the face"),
        ("graphstore/a.py", "import execgraph", "from the face"),
        ("graphstore/a.py", "import pytest", "test tool pytest"),
        ("graphstore/a.py", "from hypothesis import given", "test tool hypothesis"),
        ("adapters/a.py", "from watchdog.observers import Observer", "only invalidation"),
        ("invalidation/walker.py", "import watchdog", "only invalidation/files"),
    ],
)
def test_the_check_finds(module: str, source: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / module
    path.parent.mkdir(parents=True)
    path.write_text(source)
    [found] = violations(tmp_path)
    assert complaint in found
    assert found.startswith(f"{module}:")


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("adapters/cli.py", "from ..engine import run\nfrom ..graphstore.model import Step"),
        ("engine/a.py", "from .run import Run\nfrom . import tool\nfrom ..invalidation import x"),
        ("engine/tools/a.py", "from ..errors import x\nfrom ..keys.b import y\nfrom .c import z"),
        (
            "graphstore/neo4j/store.py",
            "import neo4j\nfrom ..model import Step\nfrom . import queries",
        ),
        ("invalidation/files/a.py", "import watchdog.events\nfrom ..formats import parse"),
        ("invalidation/watching/a.py", "from ..source import Source\nfrom .hints import Hints"),
        ("invalidation/impact.py", "from .validity import broken\nimport math"),
        ("adapters/demo/agent.py", "from ... import Engine, Schema"),
        ("graphstore/sqlite/store.py", "from ... import __version__"),
    ],
)
def test_the_check_lets_pass(module: str, source: str, tmp_path: Path) -> None:
    path = tmp_path / module
    path.parent.mkdir(parents=True)
    path.write_text(source)
    assert violations(tmp_path) == []


# Who writes what


def written_from_outside(source: str, names: set[str]) -> list[int]:
    """The lines that assign to an attribute of what goes by one of these names."""
    assigned = [
        target
        for node in ast.walk(ast.parse(source))
        for target in (
            node.targets
            if isinstance(node, ast.Assign)
            else [node.target]
            if isinstance(node, ast.AugAssign | ast.AnnAssign)
            else []
        )
    ]
    return [it.lineno for it in assigned if isinstance(it, ast.Attribute) and _owner(it) in names]


def _owner(target: ast.Attribute) -> str:
    """The last name before the attribute: of ``taken.run.path.left`` that is ``path``."""
    match target.value:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


RUN_AND_ITS_PARTS = {
    "run", "outer", "path", "search", "account", "notes", "occurrences", "effects", "refusals",
    "publication", "family",
}  # fmt: skip


def test_a_run_and_its_parts_are_written_by_themselves_only() -> None:
    found = {
        str(path.relative_to(ROOT)): lines
        for path in (ROOT / "engine").rglob("*.py")
        if (lines := written_from_outside(path.read_text(encoding="utf-8"), RUN_AND_ITS_PARTS))
    }
    assert found == {}


def test_this_test_can_tell_who_writes() -> None:
    source = "run.over = True\nit.run.path.left = None\nself._path = 1\nx = run.over\nrun.n += 1"
    assert written_from_outside(source, RUN_AND_ITS_PARTS) == [1, 2, 5]


# What is loaded, as a fresh interpreter sees it

LOADED = f"print(*sorted(name for name in {HEAVY} if name in sys.modules))"


def loaded_after(code: str) -> str:
    command = [sys.executable, "-c", f"import sys\n{code}\n{LOADED}"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()[-1]


def test_import_execgraph_loads_nothing_heavy() -> None:
    assert loaded_after("import execgraph") == ""


def test_every_exported_name_is_there_and_dir_shows_it() -> None:
    assert list(execgraph.__all__) == sorted(execgraph.__all__)
    for name in execgraph.__all__:
        assert getattr(execgraph, name) is not None
        assert name in dir(execgraph)


def test_importing_the_face_names_loads_nothing_heavy() -> None:
    assert loaded_after("from execgraph import *") == ""


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = execgraph.Nonsense


def test_execgraph_help_loads_nothing_heavy() -> None:
    code = """
sys.argv = ["execgraph", "--help"]
from importlib.metadata import entry_points
[command] = entry_points(group="console_scripts", name="execgraph")
try:
    command.load()()
except SystemExit as end:
    assert not end.code, end.code
"""
    assert loaded_after(code) == ""


def test_this_test_can_tell_when_something_heavy_is_loaded() -> None:
    assert loaded_after("import neo4j, uvicorn") == "neo4j uvicorn"
