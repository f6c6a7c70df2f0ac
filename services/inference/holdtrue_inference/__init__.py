"""Serve it, record it."""
