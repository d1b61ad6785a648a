"""How fast the study runs, measured: `python -m benchmarks [PART] [OPTIONS]`."""

import sys
from pathlib import Path

# The library is no installed package; without this line every command would need PYTHONPATH=workflow/lib.
sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "lib"))
