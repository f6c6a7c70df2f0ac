"""The trainer's work that outlives its request: runs in child processes, and decisions about retraining."""
