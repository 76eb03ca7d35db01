"""One driver and the database it leads to, which all clients of one opened store share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import StoreNotOpen
from ..store import RETRY_SECONDS
from .trouble import raised

if TYPE_CHECKING:
    from neo4j import AsyncDriver, AsyncSession

    from .address import Address

__all__ = ["Connection"]

_CONNECT_SECONDS = 5.0


class Connection:
    """A driver, which is made or given, and its database. ``opened``: the store behind it was
    recognised. ``url`` holds no credentials."""

    def __init__(self, address: Address, url: str, auth: Any, driver: AsyncDriver | None) -> None:
        self.url = url
        self.opened = False
        self._address = address
        self._auth = address.credentials if auth is None else auth
        self._given = driver
        self._driver: AsyncDriver | None = driver

    @property
    def is_own(self) -> bool:
        """Whether there is a driver, and it was made here."""
        return self._driver is not None and self._driver is not self._given

    def connect(self) -> None:
        """Make the driver, unless there is one. Raises StoreError."""
        if self._driver is None:
            self._driver = self._made()

    async def close(self) -> None:
        """Close the driver, unless it was given."""
        driver, own = self._driver, self.is_own
        self._driver, self.opened = self._given, False
        if driver is not None and own:
            await driver.close()

    def session(self, **settings: Any) -> AsyncSession:
        """A session of the driver's on this database. Raises StoreNotOpen."""
        if self._driver is None:
            raise StoreNotOpen(self.url)
        return self._driver.session(
            database=self._address.database, notifications_min_severity="OFF", **settings
        )

    def _made(self) -> AsyncDriver:
        from neo4j import AsyncGraphDatabase

        try:
            return AsyncGraphDatabase.driver(
                self._address.uri,
                auth=self._auth,
                connection_timeout=_CONNECT_SECONDS,
                connection_acquisition_timeout=RETRY_SECONDS,
                telemetry_disabled=True,
                user_agent="execgraph",
            )
        except Exception as error:
            raise raised(error, self.url) from error
