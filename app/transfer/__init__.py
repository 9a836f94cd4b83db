"""Moving in and out: backups, copies from one database to another, what other CAs left behind."""
