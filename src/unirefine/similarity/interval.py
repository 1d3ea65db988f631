"""How many there are of what was found in a sample."""

import math

_Z = 1.959963984540054  # 95% of a normal distribution


def interval(found: int, sampled: int, total: int) -> tuple[int, int]:
    """The 95% interval (Wilson's) of how many of `total` there are, when `found` of `sampled` drawn from them are."""
    if sampled >= total:
        return found, found
    share, spread = found / sampled, _Z**2 / sampled
    middle = share + spread / 2
    half = math.sqrt(spread * (share * (1 - share) + spread / 4))
    low, high = ((middle + sign * half) / (1 + spread) for sign in (-1, 1))
    return max(found, math.floor(low * total)), math.ceil(high * total)
