"""Versioned, validated datasets on Delta tables."""
