"""What inference keeps on its own disk: the spool of predictions, artifacts, and the last desired state."""
