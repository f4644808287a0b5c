"""What all connectors share: values and generators that do no I/O, and the client that does it."""
