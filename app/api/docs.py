"""``/docs``: Swagger UI over ``/openapi.json``, its scripts from this service and nowhere else.

An admin types a token into that page: no script of a third party may run there, and it must work without the internet.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from fastapi import APIRouter
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles

__all__ = ["STATIC_PATH", "router", "static_files"]

STATIC_PATH: Final = "/docs/static"
# FastAPI's page starts Swagger UI by an inline script.
_POLICY: Final = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'"
)

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def docs() -> Response:
    """The page."""
    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="tiny-ca",
        swagger_js_url=f"{STATIC_PATH}/swagger-ui-bundle.js",
        swagger_css_url=f"{STATIC_PATH}/swagger-ui.css",
        swagger_favicon_url=f"{STATIC_PATH}/favicon.png",
    )
    return HTMLResponse(page.body, headers={"Content-Security-Policy": _POLICY})


def static_files() -> StaticFiles:
    """Swagger UI's files, from the package that carries them."""
    return StaticFiles(directory=str(files("fastapi_offline") / "static"))
