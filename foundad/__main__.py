"""``python -m foundad``: the same as the command ``foundad``."""

import sys

from foundad.cli import main

sys.exit(main())
