"""`python -m cli.documents`: writes what is generated."""

from cli.documents import main

main()
