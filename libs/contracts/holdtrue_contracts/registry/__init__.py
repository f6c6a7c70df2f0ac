"""Generated messages of the area registry."""
