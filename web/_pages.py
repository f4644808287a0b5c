"""Pages for people: rendered here, with headers that let nothing else run, frame or keep them."""

from collections.abc import Callable, Coroutine, Mapping
from functools import cache
from typing import Any
from urllib.parse import parse_qs

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

from connectors import ConnectorError, Words, say
from settings import SettingsError
from storage import StorageError
from storage.connect_sessions import LinkRefusedError
from web import _languages
from web._languages import Language
from web._look import FOLDER, Look
from web._problems import Problem, problem_for

STATUS = {"unknown": 404, "over": 410, "used": 410, "other_browser": 403, "not_covered": 403}
MAX_FIELDS = 200
FAILED = say("That did not work")
NOT_SET_UP = say("Not set up yet")
# What a person is told of an error that has no words of its own, by the status of its answer.
BY_STATUS = {
    404: say("There is no such thing here, or it was removed."),
    409: say("The app refused that. Try again; if it stays so, ask whoever gave you this link."),
    429: say("That was too much at once. Wait a minute, then load the page again."),
    503: say("That cannot be done right now. Try again in a minute."),
}
OTHERWISE = say("Something went wrong on our side. Try again in a minute.")


class PageError(Exception):
    """A request for a page that is refused, in words for a person."""

    def __init__(self, status: int, title: Words, text: Words) -> None:
        super().__init__(str(text))
        self.status = status
        self.title = title
        self.text = text


@cache
def _templates(code: str) -> Environment:
    language = _languages.LANGUAGES[code]
    templates = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    templates.globals.update(tell=language.tell, translated=language.text)
    templates.install_gettext_callables(  # type: ignore[attr-defined]
        language.text, lambda one, many, n: language.text(one if n == 1 else many), newstyle=True
    )
    return templates


def language_of(request: Request) -> Language:
    """That of the session's link, where it names one that we have; else the browser's."""
    wanted = getattr(request.state, "language", None)
    return _languages.chosen(wanted, request.headers.get("accept-language", ""))


def page(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A page of ours, in the reader's language."""
    look: Look = request.app.state.look
    language = language_of(request)
    values = {"look": look, "language": language.code, "return_url": None, **values}
    body = _templates(language.code).get_template(template).render(**values)
    return HTMLResponse(body, status, {**look.headers, "content-language": language.code})


def problem(request: Request, status: int, title: Words, text: Words) -> HTMLResponse:
    told = sentence(language_of(request).tell(text))
    return page(request, "problem.html", status, title=title, text=told)


async def form(request: Request) -> Mapping[str, list[str]]:
    """The fields of a form that was sent the way browsers send it."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise PageError(415, FAILED, say("This page takes what its own form sends."))
    body = (await request.body()).decode("utf-8", "replace")
    try:
        return parse_qs(body, keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise PageError(400, FAILED, say("The form has too many fields.")) from None


class PageRoute(APIRoute):
    """A route whose errors end on a page, too."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handler(request)
            except RequestValidationError:
                return problem(request, 404, say("Not found"), say("There is no such page."))
            except PageError as error:
                return problem(request, error.status, error.title, error.text)
            except LinkRefusedError as error:
                title = say("This link cannot be used")
                return problem(request, STATUS[error.reason], title, error.words)
            except SettingsError:
                text = say(
                    "This is not set up yet. Whoever runs this service has to finish that first."
                )
                return problem(request, 503, NOT_SET_UP, text)
            except (StorageError, ConnectorError, Problem) as error:
                found = problem_for(error)
                words = getattr(error, "words", None)
                text = words or BY_STATUS.get(found.status, OTHERWISE)
                answer = problem(request, found.status, FAILED, text)
                answer.headers.update(found.headers)
                return answer

        return handled


def sentence(said: str) -> str:
    """A text of ours as people write: with a capital and a full stop."""
    text = said.strip()
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '!', '?', '…')) else '.'}"
