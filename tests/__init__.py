"""The tests see nothing of the shell's variables, nor of a `.env` or `prefect.toml` beside them.

Here, since this comes before Prefect: it reads both as soon as it is imported.
"""

import os
from pathlib import Path

from deployments import surroundings

surroundings.forget()
os.chdir(Path(__file__).parent)  # where no such file lies
