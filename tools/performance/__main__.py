"""``python -m tools.performance [--write] [--only RUNS]``."""

import sys

from tools.performance import main

sys.exit(main(sys.argv[1:]))
