"""The process that trains one model: a new session, an empty folder, limits, no secrets.

It reads the job and its input files from its folder and leaves the result and the declared files there. Only here is
scikit-learn imported.
"""
