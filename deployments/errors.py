"""Errors that cost no import of Prefect to know."""


class PrefectUnavailableError(Exception):
    """The Prefect server did not do what it was asked to: try again later."""
