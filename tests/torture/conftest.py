"""The torture's modules find the bad disk where its commands do."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent / "shim"))
