"""The servers on this machine, as children of one process."""
