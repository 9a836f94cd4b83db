"""The library alone: no socket, no service; mirrors tiny_ca."""
