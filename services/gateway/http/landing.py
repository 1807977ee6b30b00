"""`/`: where a browser that was pointed here finds its way."""

from typing import Final

from litestar import MediaType, Response, get
from litestar.handlers import HTTPRouteHandler

from services.gateway.http.openapi import page

BODY: Final = (
    "<p>Time and work you can trust: point an agent here and watch sessions appear.</p><ul>"
    "<li><a href='/docs'>The public interface</a> "
    "(<a href='/openapi.json'>OpenAPI 3.1</a>)</li>"
    "<li><a href='/health'>How everything is</a></li>"
    "<li><a href='/metrics'>Metrics</a></li></ul>"
)


@get("/", include_in_schema=False, sync_to_thread=False)
def landing() -> Response[bytes]:
    """A page with links."""
    return Response(page("Timeloom", BODY), media_type=MediaType.HTML)


HANDLERS: Final[list[HTTPRouteHandler]] = [landing]
