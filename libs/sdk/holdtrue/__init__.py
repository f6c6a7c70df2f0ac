"""The SDK and the holdtrue command."""
