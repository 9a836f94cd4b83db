"""The service through its ASGI interface."""
