"""Row numbers in tables."""

import numpy as np

NONE = np.uint32(0xFFFFFFFF)
"""A uint32 that is no row number: tables have fewer than 2^32 - 1 rows."""
