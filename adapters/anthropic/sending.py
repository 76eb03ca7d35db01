"""What is recorded of a request: its body, and what else can change an answer."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from ...engine.outcome.attempts import Attempt
from ...graphstore.canonical import Json
from .dialect import BETA, QUERY, WHO

__all__ = ["all_of", "as_sent", "body_of", "default_base_url", "failed", "with_body"]

_USUAL_PORTS = {"http": ":80", "https": ":443"}
_DEFAULT = "https://api.anthropic.com"
#: What may hold a service's address, or headers, of a client that the environment configures.
_CONFIGURES = ("ANTHROPIC_PROFILE", "ANTHROPIC_CUSTOM_HEADERS")


def as_sent(
    body: Mapping[str, Any],
    *,
    headers: Mapping[str, Any],
    query: Mapping[str, Any],
    base_url: object,
) -> dict[str, Json]:
    """A request as it is recorded: the body, and beside it who is asked, and by which betas.

    The SDK's ``extra_body``, ``extra_headers`` and ``extra_query`` are parts of what is sent.
    """
    fields = {key: value for key, value in body.items() if key != "extra_body"}
    sent = {**headers, **(fields.get("extra_headers") or {})}
    asked = {**query, **(fields.get("extra_query") or {})}
    betas = [value for key, value in sent.items() if key.lower() == BETA]
    who = _address(str(base_url))
    return {
        **fields,
        **(body.get("extra_body") or {}),
        **({BETA: betas[-1]} if betas and isinstance(betas[-1], str) else {}),
        **({QUERY: asked} if asked else {}),
        # The usual address is left out, so that requests recorded before have the same keys.
        **({WHO: who} if who != _DEFAULT else {}),
    }


def body_of(request: Mapping[str, Json]) -> dict[str, Json]:
    """The body of a request that ``as_sent`` made."""
    return {key: value for key, value in request.items() if key not in (BETA, QUERY, WHO)}


def all_of(request: Any) -> dict[str, Any]:
    """The body of the SDK's request, with all that the SDK would add to it."""
    return {**(request.json or {}), **(request.options.extra_json or {})}


def with_body(request: Any, body: Mapping[str, Any] | None) -> Any:
    """The SDK's request with another body, to which the SDK adds nothing; as it is if it is
    None."""
    if body is None:
        return request
    changed = request.copy(body=dict(body))
    changed.options.extra_json = None
    return changed


def failed(model: str, response: Any) -> Attempt:
    """The attempt that was answered with an error."""
    raw = response.http_response
    return Attempt(model, f"{raw.status_code} {raw.reason_phrase}".strip(), raw.status_code)


def default_base_url() -> str | None:
    """Whom a client asks that the environment configures; None if only the SDK can tell."""
    if any(name in os.environ for name in _CONFIGURES):
        return None
    return os.environ.get("ANTHROPIC_BASE_URL") or _DEFAULT


def _address(url: str) -> str:
    """``url`` without credentials, and in one spelling."""
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    host = parts.netloc.rpartition("@")[2].lower().removesuffix(_USUAL_PORTS.get(scheme, ":"))
    return urlunsplit((scheme, host, parts.path.rstrip("/"), parts.query, ""))
