"""Imported by every Python that has this folder on its path: puts a toy in the place of the services."""

from holdtrue_local import services

services.SERVICES = (services.Service("toy", {"grpc": 7001, "metrics": 7002}, {}),)
