"""The service killed at the worst moment, and what is left."""
