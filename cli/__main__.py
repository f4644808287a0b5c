"""`python -m cli`: the same as `atom-sync`."""

from cli import main

main()
