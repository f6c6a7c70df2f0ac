"""Delivery of events that is neither lossy nor double."""
