"""The second process of `benchmarks.webhooks`: the vendor that delivers."""

import asyncio
import sys

from benchmarks.webhooks import client

if __name__ == "__main__":
    asyncio.run(client(int(sys.argv[1])))
