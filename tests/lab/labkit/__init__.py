"""The lab: networks of systemd containers, on the machine's kernel or in a throw-away VM.

Tests use it as

    from labkit import Lab
    lab = Lab()
    lab.exec("c1", ["ping", "-c1", "203.0.113.56"])
"""
from labkit.lab import Lab
from labkit.common import LabError

__all__ = ["Lab", "LabError"]
