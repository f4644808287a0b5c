"""Makes the made-up vendor known in this process, as if its file stood in `connectors/`."""

from pathlib import Path

import connectors
from connectors import Connector

INTEGRATION = "benchmark"
STREAM = "items"
PATH = "/api.benchmark.test/v1/items"


def register() -> Connector:
    """To be called before anything asks which connectors there are: the answer is kept."""
    connectors.__path__.append(str(Path(__file__).parent / "vendor"))
    return connectors.load(INTEGRATION)
