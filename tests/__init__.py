"""The tests see nothing of the shell's variables, nor of a `.env` or `prefect.toml` beside them.

Here, since this comes before Prefect: it reads both as soon as it is imported, and again later, so
that `conftest` leaves the folder for good once pytest has found its tests in it.
"""

from contextlib import chdir
from importlib import import_module
from pathlib import Path

from servers import environment

HERE = Path(__file__).parent  # no such file lies here

environment.forget()
with chdir(HERE):
    import_module("prefect")
