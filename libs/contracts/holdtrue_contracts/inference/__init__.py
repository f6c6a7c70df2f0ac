"""Generated messages of the area inference."""
