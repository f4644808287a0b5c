"""Played answers as the client hands them on: what it refuses is raised."""

from connectors import Connector, ConnectorError, Request, Response
from connectors.kernel.statuses import error_by_status
from tests._driving import Answer


def judged(connector: Connector, response: Response) -> ConnectorError | None:
    """What the client takes an answer for."""
    return connector.classify(response) or error_by_status(connector.title, "GET /here", response)


def as_the_client(connector: Connector, answer: Answer) -> Answer:
    """Those answers, but what the client would not hand on is raised as the client does."""

    def judging(request: Request) -> Response:
        response = answer(request)
        error = judged(connector, response)
        if error is not None and response.status not in request.expect:
            raise error
        return response

    return judging
