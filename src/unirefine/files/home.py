"""Where the workflow lies: in the checkout, or inside the installed package, where `setup.py` puts a copy.

Both hold workflow/, profiles/, config/, envs/ and resources/ under the same names.
"""

from pathlib import Path

PACKAGED = Path(__file__).parents[1] / "checkout"
CHECKOUT = Path(__file__).parents[3]
HOME = PACKAGED if (PACKAGED / "workflow/Snakefile").exists() else CHECKOUT
SNAKEFILE = HOME / "workflow/Snakefile"
