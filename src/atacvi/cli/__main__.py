"""``python -m atacvi.cli``."""

from __future__ import annotations

import sys

from atacvi.cli import main

sys.exit(main())
