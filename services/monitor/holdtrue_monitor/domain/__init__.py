"""What the monitor knows and decides, without any input or output."""
