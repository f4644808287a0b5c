"""The version of the JSON API: the first number changes with what would break a client."""

API_VERSION = "1.0.0"
