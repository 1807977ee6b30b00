"""The description of the public interface: OpenAPI 3.1 as JSON, and as a page without scripts."""

from html import escape
from typing import Any, Final

import msgspec
from litestar import Litestar, MediaType, Request, Response, Router, get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.openapi.spec import Components, License, SecurityScheme
from litestar.routes import HTTPRoute

from services.gateway.http.request import StrictRequest
from services.gateway.payloads.problem import Problem

VERSION: Final = "1.0.0"
STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;"
    "color:#1c2430;background:#fff}code{font:14px ui-monospace,monospace}"
    "dt{margin-top:.8rem}dd{margin-left:2rem;color:#4a5565}h2{margin-top:2.5rem}"
    "@media(prefers-color-scheme:dark){body{background:#12161c;color:#dde3ea}dd{color:#9aa7b5}"
    "a{color:#7db4ff}}"
)


class _NoPages(OpenAPIRenderPlugin):
    """Takes the framework's pages away: they load scripts from elsewhere and answer 404 in HTML."""

    def render(
        self,
        request: Request[Any, Any, Any],  # noqa: ARG002  # the plugin's signature
        openapi_schema: dict[str, Any],  # noqa: ARG002  # likewise
    ) -> bytes:
        """Never asked: it has no route."""
        return b""

    def receive_router(self, router: Router) -> None:
        """Called when the pages are registered."""
        router.routes.clear()


def openapi() -> OpenAPIConfig:
    """What the description says beside the handlers."""
    return OpenAPIConfig(
        title="Timeloom",
        version=VERSION,
        description=(
            "Time and work you can trust. Errors are RFC 9457 problems, lists are pages, writes "
            "take an Idempotency-Key, instants are RFC 3339 and durations seconds."
        ),
        license=License(name="Apache-2.0", identifier="Apache-2.0"),
        render_plugins=[_NoPages(path="/openapi.json")],
        components=Components(
            security_schemes={
                "bearer": SecurityScheme(type="http", scheme="bearer"),
                "api_key": SecurityScheme(
                    type="apiKey", name="X-API-Key", security_scheme_in="header"
                ),
            }
        ),
        security=[{"bearer": []}, {"api_key": []}],
        use_handler_docstrings=True,
    )


def described(app: Litestar) -> dict[str, Any]:
    """The whole description: what the framework knows, and what it can't."""
    schema = app.openapi_schema.to_schema()
    for route in app.routes:
        for handler in route.route_handlers if isinstance(route, HTTPRoute) else ():
            if body := handler.opt.get("body"):
                # It reads its body by itself, past the framework.
                content = {"application/json": {"schema": _reference(schema, body)}}
                for method in handler.http_methods:
                    operation = schema["paths"][route.path_format][method.lower()]
                    operation["requestBody"] = {"required": True, "content": content}
    problem = {"application/problem+json": {"schema": _reference(schema, Problem)}}
    for path, operations in schema["paths"].items():
        for operation in operations.values() if path.startswith("/v1/") else ():
            # The framework's own idea of an error, which nobody gets to see.
            operation["responses"].pop("400", None)
            operation["responses"]["default"] = {"description": "A problem", "content": problem}
    return schema


def _reference(schema: dict[str, Any], type_: type) -> dict[str, Any]:
    """A reference to a type, which is added to the components with all it needs."""
    (reference,), components = msgspec.json.schema_components(
        [type_], ref_template="#/components/schemas/{name}"
    )
    schema["components"]["schemas"].update(components)
    return reference


@get("/openapi.json", include_in_schema=False, sync_to_thread=False)
def openapi_json(request: StrictRequest) -> Response[dict[str, Any]]:
    """The description for machines."""
    return Response(described(request.app), media_type="application/vnd.oai.openapi+json")


@get("/docs", include_in_schema=False, sync_to_thread=False)
def docs(request: StrictRequest) -> Response[bytes]:
    """What there is, by area; works offline and without scripts."""
    areas: dict[str, list[str]] = {}
    for path, operations in sorted(described(request.app)["paths"].items()):
        for method, operation in operations.items():
            area = (operation.get("tags") or ["other"])[0]
            areas.setdefault(area, []).append(_operation(method, path, operation))
    body = "".join(
        f"<h2>{escape(area)}</h2><dl>{''.join(lines)}</dl>" for area, lines in areas.items()
    )
    intro = "<p>The same for machines: <a href='/openapi.json'>/openapi.json</a></p>"
    return Response(page("Timeloom: the public interface", intro + body), media_type=MediaType.HTML)


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    text = operation.get("description") or operation.get("summary") or ""
    names = [parameter["name"] for parameter in operation.get("parameters", [])]
    taking = f" <small>({escape(', '.join(names))})</small>" if names else ""
    return (
        f"<dt><code>{method.upper()} {escape(path)}</code>{taking}</dt>"
        f"<dd>{escape(text.splitlines()[0] if text else '')}</dd>"
    )


def page(title: str, body: str) -> bytes:
    """A small page; `body` is HTML that the caller made safe."""
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'>"
        f"<meta name='viewport' content='width=device-width'><title>{escape(title)}</title>"
        f"<style>{STYLE}</style><h1>{escape(title)}</h1>{body}</html>"
    ).encode()


HANDLERS: Final[list[HTTPRouteHandler]] = [openapi_json, docs]
