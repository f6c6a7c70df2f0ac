"""Generated messages of the area trainer."""
