"""The service in parts: over a real database, without a socket."""
