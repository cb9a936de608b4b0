"""``python tests/torture``: what must stand before torch is imported, then the session."""

import os
import sys
from pathlib import Path

# Read once by the thread pools of torch and numpy: threads do not survive a fork.
os.environ["OMP_NUM_THREADS"] = "1"
sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).parent / "shim")]

from session import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
