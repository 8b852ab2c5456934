"""What the project promises in numbers, measured; see README.md here."""
