"""What is the program's own code, and what is installed beside it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import inspect
import site
import sys
import sysconfig
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

__all__ = ["installed", "is_own", "name_of", "packages_of", "reaches_outside"]

_THIS = __name__.partition(".")[0]
_LIBRARY = tuple(f"{_THIS}.{it}" for it in ("adapters", "engine", "invalidation", "graphstore"))

#: Whatever begins so gives something else each time, whoever calls it.
_OUTSIDE = (
    "builtins.__import__",
    "builtins.eval",
    "builtins.exec",
    "builtins.globals",
    "builtins.hash",
    "builtins.id",
    "builtins.input",
    "builtins.open",
    "configparser.ConfigParser.read",
    "datetime.date.fromtimestamp",
    "datetime.date.today",
    "datetime.datetime.fromtimestamp",
    "datetime.datetime.now",
    "datetime.datetime.today",
    "datetime.datetime.utcnow",
    "getpass.",
    "glob.",
    "httpx.",
    "importlib.import_module",
    "io.open",
    "locale.getlocale",
    "os.cpu_count",
    "os.environ",
    "os.environb",
    "os.getcwd",
    "os.getenv",
    "os.getpid",
    "os.listdir",
    "os.path.exists",
    "os.path.expanduser",
    "os.path.expandvars",
    "os.path.getmtime",
    "os.path.getsize",
    "os.path.isdir",
    "os.path.isfile",
    "os.popen",
    "os.scandir",
    "os.stat",
    "os.urandom",
    "os.walk",
    "platform.",
    "random.",
    "requests.",
    "secrets.",
    "shutil.which",
    "socket.",
    "sqlite3.connect",
    "subprocess.",
    "sys.argv",
    "sys.modules",
    "sys.stdin",
    "tempfile.",
    "time.ctime",
    "time.gmtime",
    "time.localtime",
    "time.monotonic",
    "time.perf_counter",
    "time.strftime",
    "time.time",
    "urllib.request.",
    "uuid.getnode",
    "uuid.uuid1",
    "uuid.uuid4",
)


def reaches_outside(name: str) -> bool:
    """Whether what is called so by the library is known to depend on the world outside."""
    return f"{name}.".startswith(tuple(f"{it.rstrip('.')}." for it in _OUTSIDE))


def name_of(value: Any) -> str:
    """What is installed is known by its name, and by the version of what it came with."""
    module = str(getattr(value, "__module__", "") or "")
    name = getattr(value, "__qualname__", getattr(value, "__name__", type(value).__qualname__))
    return f"{installed(module)}:{name}"


def installed(module: str) -> str:
    """The name of a module, and the version of what it came with."""
    return f"{module} {_version(module.partition('.')[0])}"


def packages_of(things: Iterable[object]) -> frozenset[str]:
    """The packages that things were written in."""
    modules = {str(getattr(inspect.unwrap(it), "__module__", "")) for it in things if callable(it)}
    return frozenset(it if _is_this(it) else it.partition(".")[0] for it in modules) - {""}


@lru_cache(maxsize=512)
def _version(package: str) -> str:
    if not package or package in sys.stdlib_module_names:
        return ""
    known = getattr(sys.modules.get(package), "__version__", None)
    if isinstance(known, str):
        return known
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


@lru_cache(maxsize=4096)
def is_own(module: str, packages: frozenset[str]) -> bool:
    """Whether a module is the program's own: of one of its ``packages``, or not installed."""
    top = module.partition(".")[0]
    if top in packages or module in packages:
        return True
    if top in sys.stdlib_module_names or _is_this(module) or module in ("", "None"):
        return False
    file = _file_of(module) or _file_of(top)
    return file is None or not any(Path(file).is_relative_to(it) for it in _places())


def _is_this(module: str) -> bool:
    return f"{module}.".startswith(tuple(f"{it}." for it in _LIBRARY)) or module == _THIS


def _file_of(module: str) -> str | None:
    if (known := sys.modules.get(module)) is not None:
        return getattr(known, "__file__", None)
    try:
        spec = importlib.util.find_spec(module.partition(".")[0])
    except (ImportError, ValueError):
        return None
    return None if spec is None else spec.origin


@lru_cache(maxsize=1)
def _places() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    folders = [paths["purelib"], paths["platlib"], *site.getsitepackages()]
    return tuple(dict.fromkeys([*folders, site.getusersitepackages()]))
