"""Generated messages of the area monitor."""
