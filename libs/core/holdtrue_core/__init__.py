"""The chassis of every holdtrue service."""
