"""Statistics that say how good a model is and how sure we are."""
