"""What should serve and how to move there: entities and rules without any I/O."""
