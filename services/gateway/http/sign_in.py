"""/v1/auth: registering, signing in and out."""

from typing import Final

from litestar import post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody

from services.gateway.accounts.sign_in import SignIn
from services.gateway.auth import Caller
from services.gateway.http.provide import address_of
from services.gateway.http.request import StrictRequest
from services.gateway.payloads.accounts import (
    LoginRequest,
    LogoutRequest,
    RefreshRequest,
    RegisterRequest,
    SignedInReply,
)
from services.gateway.rate_limit import RateLimits

PUBLIC: Final[list[dict[str, list[str]]]] = [{}]


@post("/v1/auth/register", tags=["accounts"], security=PUBLIC)
async def register(
    data: JSONBody[RegisterRequest],
    request: StrictRequest,
    sign_in: NamedDependency[SignIn],
    limits: NamedDependency[RateLimits],
) -> SignedInReply:
    """Makes an organization and signs its owner in."""
    limits.sign_in(address_of(request), data.email)
    session = await sign_in.register(
        email=data.email,
        password=data.password,
        name=data.name,
        organization_name=data.organization_name,
    )
    return SignedInReply.of(session)


@post("/v1/auth/login", tags=["accounts"], security=PUBLIC, status_code=200)
async def login(
    data: JSONBody[LoginRequest],
    request: StrictRequest,
    sign_in: NamedDependency[SignIn],
    limits: NamedDependency[RateLimits],
) -> SignedInReply:
    """Signs in by address and password."""
    limits.sign_in(address_of(request), data.email)
    session = await sign_in.login(
        email=data.email, password=data.password, org_id=data.organization_id
    )
    return SignedInReply.of(session)


@post("/v1/auth/refresh", tags=["accounts"], security=PUBLIC, status_code=200)
async def refresh(
    data: JSONBody[RefreshRequest],
    request: StrictRequest,
    sign_in: NamedDependency[SignIn],
    limits: NamedDependency[RateLimits],
) -> SignedInReply:
    """Exchanges a refresh token for new tokens; one that comes back ends the sign-in."""
    limits.refresh(address_of(request))
    return SignedInReply.of(await sign_in.refresh(data.refresh_token))


@post("/v1/auth/logout", tags=["accounts"], status_code=204)
async def logout(
    caller: NamedDependency[Caller],
    sign_in: NamedDependency[SignIn],
    data: JSONBody[LogoutRequest | None] = None,
) -> None:
    """Ends this sign-in, or every one; their tokens are refused from now on."""
    await sign_in.logout(caller, everywhere=data is not None and data.everywhere)


HANDLERS: Final[list[HTTPRouteHandler]] = [register, login, refresh, logout]
