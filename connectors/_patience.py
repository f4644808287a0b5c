"""The former address of `connectors.kernel.retry`, which scripts outside this tree import."""

from connectors.kernel.retry import Patience

__all__ = ["Patience"]
