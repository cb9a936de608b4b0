"""Python imports this at its start where this folder is on the path: commands get a bad disk."""

import os

import full_disk

if full_disk.VARIABLE in os.environ:
    _mode, _access = os.environ[full_disk.VARIABLE].split(":")
    full_disk.Disk(_mode, int(_access)).install()
