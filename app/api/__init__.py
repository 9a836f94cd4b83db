"""HTTP in, HTTP out: one router a file, each a thin layer over the lifecycle service."""
