"""Model formats: safe to load, equal wherever they run."""
