"""``python -m tinygrad_ai``: the command line."""

import sys

from tinygrad_ai.cli import main

sys.exit(main())
