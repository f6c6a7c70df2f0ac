"""The events and messages that the parts of holdtrue exchange."""
