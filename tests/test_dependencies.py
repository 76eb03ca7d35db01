"""What the package imports is declared, and what is declared is locked."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import execgraph
from execgraph.tests.test_structure import FOLDERS, imports_of

ROOT = Path(execgraph.__file__).resolve().parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
LOCKS = ROOT / "scripts" / "locks"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PINNED = re.compile(r"[a-z0-9-]+==[0-9][a-z0-9.+!]*( ; [^/@]+)?")


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(each).name) for each in requirements}


DECLARED = names(PROJECT["dependencies"]).union(
    *(names(needs) for extra, needs in EXTRAS.items() if extra != "dev")
)


#: What comes with an extra of a declared library, and is asked for where it is missing.
WITH_AN_EXTRA = {"botocore"}  # anthropic[bedrock]


def foreign_imports(root: Path) -> Iterator[tuple[str, str]]:
    """File and top-level module of each import that is neither ours nor the standard library's."""
    for path in (path for folder in FOLDERS for path in sorted((root / folder).rglob("*.py"))):
        for _, name in imports_of(path, root):
            module = name.partition(".")[0]
            if module != "execgraph" and module not in sys.stdlib_module_names:
                yield path.relative_to(root).as_posix(), module


def undeclared(root: Path) -> list[str]:
    providers = packages_distributions()
    return [
        f"{file} imports {module}, which pyproject.toml does not declare"
        for file, module in foreign_imports(root)
        if module not in WITH_AN_EXTRA
        if not DECLARED & {canonicalize_name(each) for each in providers.get(module, [])}
    ]


def locked(file: str, python: str) -> dict[str, str]:
    """The version of each distribution that is installed on this Python."""
    environment = {**default_environment(), "python_version": python}
    environment["python_full_version"] = f"{python}.0"
    lines = (LOCKS / file).read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    return {
        canonicalize_name(pin.name): next(iter(pin.specifier)).version
        for pin in pins
        if pin.marker is None
        or pin.marker.evaluate({key: str(environment[key]) for key in environment})
    }


def test_every_import_of_the_package_is_declared() -> None:
    assert undeclared(ROOT) == []


def test_an_import_that_only_a_dependency_brings_is_found(tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "a.py").write_text("import pydantic\ndef f():\n    import anyio.abc\n")
    [found] = undeclared(tmp_path)
    assert found == "engine/a.py imports anyio, which pyproject.toml does not declare"


def test_every_declared_dependency_is_imported() -> None:
    providers = packages_distributions()
    imported = {
        canonicalize_name(provider)
        for _, module in foreign_imports(ROOT)
        for provider in providers.get(module, [])
    }
    inside_the_driver = {"neo4j-rust-ext"}  # which, on some Pythons, names what it lies in
    assert DECLARED - imported - inside_the_driver == set()


@pytest.mark.parametrize("python", PYTHONS)
def test_everything_that_is_declared_is_locked_at_a_version_that_will_do(python: str) -> None:
    versions = locked("development.txt", python)
    needs = [*PROJECT["dependencies"], *(need for needs in EXTRAS.values() for need in needs)]
    wrong = [
        need
        for need in map(Requirement, needs)
        if not need.specifier.contains(versions.get(canonicalize_name(need.name), "0"))
    ]
    assert wrong == [], "run scripts/lock"


@pytest.mark.parametrize("file", sorted(path.name for path in LOCKS.iterdir()))
def test_a_lock_has_plain_versions_and_no_addresses(file: str) -> None:
    lines = (LOCKS / file).read_text(encoding="utf-8").splitlines()
    wrong = [line for line in lines if not line.startswith("#") and not PINNED.fullmatch(line)]
    assert wrong == []
