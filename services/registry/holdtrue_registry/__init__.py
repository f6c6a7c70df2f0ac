"""What exists and may be used."""
