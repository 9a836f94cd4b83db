"""The registry: tables, units of work, and the two handlers that run them."""
