"""What is installed only where the package's extras are."""

from __future__ import annotations

from importlib.util import find_spec

from ..graphstore.errors import ConfigurationError

__all__ = ["require_server"]

_SERVER = ("starlette", "uvicorn")


def require_server(user: str) -> None:
    """Raise ConfigurationError where the extra ``server`` is missing, which ``user`` needs."""
    missing = [name for name in _SERVER if find_spec(name) is None]
    if missing:
        names = " and ".join(missing)
        raise ConfigurationError(
            f"{user} needs {names}, which this installation is without:"
            " pip install 'execgraph[server]'"
        )
