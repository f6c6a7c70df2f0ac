"""What the page shows, made of the services' messages, without any I/O."""
