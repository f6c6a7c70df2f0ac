"""SQL of the registry, one class per aggregate."""
