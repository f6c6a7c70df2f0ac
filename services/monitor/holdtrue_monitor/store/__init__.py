"""The monitor's SQL."""
