"""The service: settings, HTTP, jobs and the command line on top of tiny_ca."""
