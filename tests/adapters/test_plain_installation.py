"""What works without the extras: in an environment that has what is declared, and nothing else."""

from __future__ import annotations

import subprocess
import sysconfig
import venv
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import execgraph

ROOT = Path(execgraph.__file__).resolve().parent
COMMAND = "from execgraph.adapters.cli import main; main()"


def installed_metadata() -> Path:
    """Of the package itself; a build may have left an older one in the checkout."""
    [metadata] = Path(sysconfig.get_path("purelib")).glob("execgraph-*.dist-info")
    return metadata


def needed(name: str, extras: frozenset[str], seen: set[str]) -> Iterator[Distribution]:
    """What pip installs along with this, which is installed here."""
    found = distribution(name) if name != "execgraph" else Distribution.at(installed_metadata())
    for requirement in map(Requirement, found.requires or ()):
        wanted = requirement.marker is None or any(
            requirement.marker.evaluate({"extra": extra}) for extra in {"", *extras}
        )
        if wanted and requirement.name not in seen:
            seen.add(requirement.name)
            yield distribution(requirement.name)
            yield from needed(requirement.name, frozenset(requirement.extras), seen)


def link(found: Distribution, site: Path) -> None:
    """Put the top-level files and folders of a distribution into another environment."""
    for top in {path.parts[0] for path in found.files or () if path.parts[0] != ".."}:
        target = site / top
        if target.is_symlink() and target.resolve() != Path(str(found.locate_file(top))).resolve():
            raise AssertionError(f"two distributions have {top}")
        if not target.exists():
            target.symlink_to(Path(str(found.locate_file(top))).resolve())


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that has no extras and no tools of the tests."""
    folder = tmp_path_factory.mktemp("plain")
    venv.create(folder, with_pip=False)
    [site] = folder.glob("lib/python*/site-packages")
    (site / "execgraph").symlink_to(ROOT)
    metadata = installed_metadata()
    (site / metadata.name).symlink_to(metadata)
    for found in needed("execgraph", frozenset(), set()):
        link(found, site)
    return folder / "bin" / "python"


def run(python: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-W", "error", "-W", "ignore:'click.:DeprecationWarning", "-c", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("module", ["starlette", "uvicorn", "pytest"])
def test_it_is_without_the_extras(python: Path, tmp_path: Path, module: str) -> None:
    asked = run(python, tmp_path, f"import {module}")
    assert f"No module named '{module}'" in asked.stderr


def test_every_name_is_there_and_an_engine_works(python: Path, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        "from execgraph import *\n"
        "with Engine('sqlite:///graph.db').sync() as engine:\n"
        "    engine.observe('acl:deploy', 'allow: [ci]')\n"
    )
    asked = run(python, tmp_path, "import runpy; runpy.run_path('program.py')")
    assert (asked.returncode, asked.stderr) == (0, "")


@pytest.mark.parametrize("module", ["adapters.anthropic", "graphstore.neo4j.store"])
def test_it_loads(python: Path, tmp_path: Path, module: str) -> None:
    asked = run(python, tmp_path, f"import execgraph.{module}")
    assert (asked.returncode, asked.stderr) == (0, "")


def test_the_graph_is_asked_in_cypher(python: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/graph.db"
    fill = f"import execgraph as e\nwith e.Engine({url!r}).sync() as it: it.observe('acl:a', 1)"
    assert run(python, tmp_path, fill).returncode == 0
    query = "MATCH (r:Resource) RETURN r.uri"
    asked = run(python, tmp_path, COMMAND, "cypher", "--store", url, query)
    assert asked.returncode == 0, asked.stderr
    assert "acl:a" in asked.stdout


def test_the_demo_says_what_to_install(python: Path, tmp_path: Path) -> None:
    asked = run(python, tmp_path, COMMAND, "demo")
    assert asked.returncode == 2
    assert "pip install 'execgraph[server]'" in asked.stderr
    assert len(asked.stderr.splitlines()) == 1


def test_the_health_page_says_what_to_install(python: Path, tmp_path: Path) -> None:
    (tmp_path / "execgraph.toml").write_text(
        "[[source]]\nglob = 'acl/*.yaml'\nresource = 'acl:{path.stem}'\n"
    )
    asked = run(python, tmp_path, COMMAND, "watch", "execgraph.toml", "--health", "0")
    assert asked.returncode == 2
    assert "pip install 'execgraph[server]'" in asked.stderr
