"""What the service does, whoever asks and over whatever protocol."""
