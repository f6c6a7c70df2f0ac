"""Rows in every form in which people have them, as batches of a dataset's columns."""
