"""What we do at vendors for a tenant's accounts: tokens, keys, watches, and their end."""
