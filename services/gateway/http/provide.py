"""What handlers may take by name."""

from collections.abc import Mapping
from typing import Any

from litestar.di import Provide

from services.gateway.auth import Authenticator, Caller
from services.gateway.http.request import StrictRequest
from services.gateway.rate_limit import RateLimits
from services.gateway.tokens import BadCredential


def constant(value: object) -> Provide:
    """A collaborator that lives as long as the process."""

    def give() -> Any:
        return value

    return Provide(give, use_cache=True, sync_to_thread=False)


def authenticated(authenticator: Authenticator, limits: RateLimits) -> Provide:
    """`caller: Caller`: whoever makes the request, within their rate limit."""

    async def caller(request: StrictRequest) -> Caller:
        return await identify(request, authenticator, limits)

    return Provide(caller)


async def identify(
    request: StrictRequest, authenticator: Authenticator, limits: RateLimits
) -> Caller:
    """Whoever makes the request; raises as `admitted`."""
    return await admitted(request.headers, address_of(request), authenticator, limits)


async def admitted(
    headers: Mapping[str, str], address: str, authenticator: Authenticator, limits: RateLimits
) -> Caller:
    """Whoever sends these headers (lower case names) from that address.

    Raises:
        BadCredential: nobody we know.
        Exhausted: too many requests, or too many refused credentials from that address.
    """
    try:
        found = await authenticator.of(headers)
    except BadCredential:
        limits.refused(address)
        raise
    limits.request(found)
    return found


def address_of(request: StrictRequest) -> str:
    """The client's address, as far as proxies may be believed (GATEWAY_TRUSTED_PROXIES)."""
    return request.client.host if request.client else ""
