"""`/docs`: the API's reference with a form for every route, from files of our own: it works without a network."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse

router = APIRouter(include_in_schema=False)
#: the package is taken for the Swagger UI that it carries; its own patching of FastAPI is not used
FILES = Path(str(resources.files("fastapi_offline"))) / "static"
ASSETS = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css", "favicon.png": "image/png"}
OPEN_PATHS = frozenset({"/", "/openapi.json", "/docs", *(f"/docs/{name}" for name in ASSETS)})


@router.get("/")
async def root() -> RedirectResponse:
    return RedirectResponse("/docs")


@router.api_route("/openapi.json", methods=["GET", "HEAD"])
def openapi(request: Request) -> JSONResponse:
    """In a thread: making it takes a second and a half, in which everything else would stand still."""
    return JSONResponse(request.app.openapi())


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    return get_swagger_ui_html(
        openapi_url="/openapi.json",
        title=f"{request.app.title} – API",
        swagger_js_url="/docs/swagger-ui-bundle.js",
        swagger_css_url="/docs/swagger-ui.css",
        swagger_favicon_url="/docs/favicon.png",
    )


def _serve(name: str, media_type: str) -> None:
    @router.get(f"/docs/{name}")
    async def asset() -> FileResponse:
        return FileResponse(FILES / name, media_type=media_type, headers={"Cache-Control": "public, max-age=86400"})


for _name, _media_type in ASSETS.items():
    _serve(_name, _media_type)
