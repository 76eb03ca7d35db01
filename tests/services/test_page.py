"""docs/services.md as a page: all it shows is run by the tests beside this one."""

from __future__ import annotations

import re

from .conftest import COMMANDS, FILES, PAGE, ROOT, Service, on_sqlite

IMPORTING = """
import sys, threading
import api, nightly, release, worker
print(threading.active_count(), [name for name in ("anthropic", "neo4j") if name in sys.modules])
"""


def test_each_block_is_a_file_or_commands_that_the_tests_run() -> None:
    blocks = re.findall(r"^```(\w+)$", PAGE, re.MULTILINE)
    assert sorted(set(blocks)) == ["python", "sh", "toml"]
    assert len(FILES) == len([it for it in blocks if it != "sh"])
    assert [words[0] for words in COMMANDS] == ["uvicorn", "celery", "git", "execgraph"]


def test_what_the_page_links_to_exists() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", PAGE)
    assert links
    assert [path for path in links if not (ROOT / "docs" / path).exists()] == []


@on_sqlite
def test_modules_can_be_imported_anywhere(service: Service) -> None:
    """Before a fork too: no thread, no file, no connection, no key of the model's."""
    service.url = "neo4j://127.0.0.1:9"
    (service.folder / "importing.py").write_text(IMPORTING)
    imported = service.run("importing", ANTHROPIC_API_KEY="")
    assert imported.stdout == "1 []\n", imported.stderr
    assert not (service.folder / ".execgraph").exists()
