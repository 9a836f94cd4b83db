"""Who asks: one way to authenticate a file, each yields a Principal."""
