"""``python -m tools.reference [--check]``."""

import sys

from tools.reference import main

sys.exit(main(sys.argv[1:]))
