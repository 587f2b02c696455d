"""Who sent a request, as far as places and connections are shared: its API key or its address."""

from __future__ import annotations

import ipaddress
from contextvars import ContextVar
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["CallerMiddleware", "address_of", "current_caller", "set_caller"]

_IPV6_NETWORK_BITS: Final = 64  # what one subscriber or host gets at least (RFC 6177)
_CURRENT: ContextVar[str] = ContextVar("caller", default="")


def current_caller() -> str:
    """Return the caller of the request that the current task works for; "" if there is none."""
    return _CURRENT.get()


def set_caller(caller: str) -> None:
    """Say who the caller of the current task's request is."""
    _CURRENT.set(caller)


def address_of(client: tuple[str, int] | None) -> str:
    """Return the address that a client counts as: of IPv6 its network, "" if it is not known."""
    if client is None:
        return ""
    try:
        address = ipaddress.ip_address(client[0].partition("%")[0])  # without its interface
    except ValueError:
        return client[0]
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, _IPV6_NETWORK_BITS), strict=False))


class CallerMiddleware:
    """Sets the caller of each request to its address; a valid API key replaces that."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] == "http":
            set_caller(f"address {address_of(scope.get('client'))}")
        await self._app(scope, receive, send)
