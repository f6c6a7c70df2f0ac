"""When and how a model is trained and evaluated."""
