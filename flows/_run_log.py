"""What happens to a grant stands in the log of the run in which it happened."""

import logging
import sys

from prefect.exceptions import MissingContextError
from prefect.logging.handlers import APILogHandler

_LOGGERS = ("storage.oauth_log",)


class _RunLog(APILogHandler):
    """Passes lines on to the run's log in the Prefect API; outside of a run there is none."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's own name
        if not isinstance(sys.exc_info()[1], MissingContextError):
            super().handleError(record)


def install() -> None:
    """From now on this process's runs log refreshes, failures and notices."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        if not any(isinstance(handler, _RunLog) for handler in logger.handlers):
            logger.addHandler(_RunLog())
