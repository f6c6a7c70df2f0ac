"""Delivery of events that is neither lossy nor double.

Import from the modules: `kafka`, `topics`, `outbox`, `relay`, `react`, `mirror`, `fold`, `dead_letters`.
"""
