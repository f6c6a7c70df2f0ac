"""What exists and may be used: rules without I/O."""
