"""The former address of `connectors.kernel.statuses`, which scripts outside this tree import."""

from connectors.kernel.statuses import error_by_status, retry_after

__all__ = ["error_by_status", "retry_after"]
