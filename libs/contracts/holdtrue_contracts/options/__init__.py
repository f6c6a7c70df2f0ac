"""Generated messages of the area options."""
