"""`python -m web`: one web process."""

import argparse
import resource
import sys

import uvicorn

from settings import SettingsError
from web import _door
from web.app import create_app

# Beside clients' connections: those to PostgreSQL, Redis and vendors, and files.
OTHER_FILES = 500


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m web", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    _allow_files(_door.Door.CONNECTIONS + OTHER_FILES)
    try:
        app = create_app()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    server = uvicorn.Server(
        _door.config(app, host=options.host, port=options.port, log_level="warning")
    )
    server.run()  # with uvloop, where it is installed
    return 0 if server.started else 1


def _allow_files(wanted: int) -> None:
    """Raise how many files the process may have open, as far as it is free to."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


if __name__ == "__main__":
    raise SystemExit(main())
