"""The demonstration: the whole loop on a stream whose truth is known."""
