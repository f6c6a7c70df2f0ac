"""The people's front door."""
