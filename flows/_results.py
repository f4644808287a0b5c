"""Where results of flows would lie: nowhere, for none is kept."""

import os
from pathlib import Path

# Without a place Prefect asks its server for one, at the start of each run (3.8.8).
NOWHERE = Path(os.devnull)
