"""How well it is going, and say so."""
