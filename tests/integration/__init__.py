"""The service as a process, talked to over a socket."""
