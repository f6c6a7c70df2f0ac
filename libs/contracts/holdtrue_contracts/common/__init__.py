"""Generated messages of the area common."""
