"""What should serve, and how to move there safely."""
