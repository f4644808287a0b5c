"""When and where flows run: on this machine or elsewhere, by schedule or by trigger."""

WORK_POOL = "atom-sync"
