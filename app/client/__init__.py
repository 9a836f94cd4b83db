"""The command line's side of HTTP: it asks a service, and knows nothing of its insides."""
