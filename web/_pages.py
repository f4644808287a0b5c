"""Pages for people: rendered here, with headers that let nothing else run, frame or keep them."""

from base64 import b64encode
from collections.abc import Callable, Coroutine, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

from connectors import ConnectorError
from settings import SettingsError
from storage import StorageError
from storage.connect_sessions import LinkRefusedError
from web._problems import Problem, problem_for

FOLDER = Path(__file__).parent / "templates"
STYLE = (FOLDER / "style.css").read_text(encoding="utf-8")
STATUS = {"unknown": 404, "over": 410, "used": 410, "other_browser": 403, "not_covered": 403}
MAX_FIELDS = 200

_templates = Environment(
    loader=FileSystemLoader(FOLDER),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_style_hash = b64encode(sha256(STYLE.encode()).digest()).decode()

HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": (
        f"default-src 'none'; style-src 'sha256-{_style_hash}'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=()",
}


class PageError(Exception):
    """A request for a page that is refused, in words for a person."""

    def __init__(self, status: int, title: str, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.title = title


def page(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A page of ours."""
    body = _templates.get_template(template).render(style=STYLE, **values)
    return HTMLResponse(body, status, HEADERS)


def problem(status: int, title: str, text: str) -> HTMLResponse:
    return page("problem.html", status, title=title, text=text)


async def form(request: Request) -> Mapping[str, list[str]]:
    """The fields of a form that was sent the way browsers send it."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise PageError(415, "That did not work", "This page takes what its own form sends.")
    body = (await request.body()).decode("utf-8", "replace")
    try:
        return parse_qs(body, keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise PageError(400, "That did not work", "The form has too many fields.") from None


class PageRoute(APIRoute):
    """A route whose errors end on a page, too."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handler(request)
            except RequestValidationError:
                return problem(404, "Not found", "There is no such page.")
            except PageError as error:
                return problem(error.status, error.title, str(error))
            except LinkRefusedError as error:
                return problem(STATUS[error.reason], "This link cannot be used", sentence(error))
            except SettingsError:
                return problem(
                    503,
                    "Not set up yet",
                    "This is not set up yet. Whoever runs this service has to finish that first.",
                )
            except (StorageError, ConnectorError, Problem) as error:
                found = problem_for(error)
                answer = problem(found.status, "That did not work", sentence(found))
                answer.headers.update(found.headers)
                return answer

        return handled


def sentence(said: object) -> str:
    """A text of ours as people write: with a capital and a full stop."""
    text = str(said).strip()
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '!', '?')) else '.'}"
