"""The HTTP surface: the JSON API for the SaaS's backend, and the pages where tenants connect."""
