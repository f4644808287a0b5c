"""A GitHub account that a test plays: repositories, and rows under paths, paged as GitHub pages."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode

from connectors import Record, Request, Response, load
from tests._driving import NOW, response
from tests._judging import as_the_client

GITHUB = load("github")
DAY = timedelta(days=1)


def ago(time: timedelta) -> str:
    return (NOW - time).strftime("%Y-%m-%dT%H:%M:%SZ")


def repo(id: int, **more: Any) -> Record:
    return {"id": id, "full_name": f"acme/r{id}", "owner": {"id": 7}, "has_issues": True, **more}


def numbered(number: int, time: timedelta, **more: Any) -> Record:
    """An issue or a pull request."""
    return {"id": 1000 + number, "number": number, "updated_at": ago(time), **more}


def commit(sha: str, *parents: str, time: timedelta = DAY) -> Record:
    return {
        "sha": sha,
        "commit": {"message": sha, "committer": {"date": ago(time)}},
        "author": None,
        "parents": [{"sha": one} for one in parents],
    }


def refusal(status: int, message: str, **headers: str) -> Response:
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return response(
        {"message": message, "documentation_url": "https://docs.github.com"}, status, told
    )


@dataclass
class Account:
    """Rows by path, in the order in which GitHub lists them; those of a list by `since` in any.

    `special` answers first. What is asked is noted as (path, parameters).
    """

    repos: list[Record]
    rows: dict[str, list[Record]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    special: Callable[[Request], Response | None] = lambda request: None

    @property
    def client(self) -> Callable[[Request], Response]:
        """The answers as the client hands them on."""
        return as_the_client(GITHUB, self)

    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]

    def __call__(self, request: Request) -> Response:
        params = dict(request.params)
        self.asked.append((request.path, params))
        if (answer := self.special(request)) is not None:
            return answer
        if request.path == "/user/repos":
            return self.page(request, self.repos)
        _, _, id, *rest = request.path.split("/", 3)
        known = {str(one["id"]): one for one in self.repos}
        if id not in known:
            return refusal(404, "Not Found")
        if not rest:
            return response(known[id])
        return self.page(request, self.rows.get(request.path, []))

    def page(self, request: Request, rows: Sequence[Record], name: str = "") -> Response:
        params = dict(request.params)
        if params.get("direction") == "asc" and params.get("sort") == "updated":
            since = str(params.get("since", ""))
            rows = sorted(rows, key=lambda row: (row["updated_at"], row["id"]))
            rows = [row for row in rows if row["updated_at"] >= since]
        size, number = int(str(params["per_page"])), int(str(params.get("page", 1)))
        found = list(rows[(number - 1) * size : number * size])
        headers = {"etag": f'W/"{sha256(repr(found).encode()).hexdigest()}"'}
        if request.headers.get("if-none-match") == headers["etag"]:
            return response(None, 304, headers)
        if len(rows) > number * size:
            further = urlencode({**params, "page": number + 1})
            headers["link"] = f'<https://api.github.com{request.path}?{further}>; rel="next"'
        return response({name: found} if name else found, 200, headers)
