"""What keeps a piece of work with one store, when another may come to be at its address."""

from __future__ import annotations

from .errors import StoreReplaced

__all__ = ["Pin"]


class Pin:
    """Keeps one piece of work with the store that it was begun on."""

    def __init__(self) -> None:
        self._token: str | None = None
        self.looked = False  # whether it was just looked what is at the address

    def hold(self, token: str | None, at: str) -> None:
        """Raises StoreReplaced if ``token`` is not of the store that this was first held to."""
        if self._token is None:
            self._token = token
        elif self._token != token:
            raise StoreReplaced(
                f"another store is at {at} meanwhile; what was begun on the old one ends here."
                " Begin it anew."
            )
