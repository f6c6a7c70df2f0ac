"""What training means: recipes, splits, evaluation, and when to retrain. No I/O and no clock."""
