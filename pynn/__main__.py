"""python -m pynn."""

import sys

from pynn.cli import main

sys.exit(main())
