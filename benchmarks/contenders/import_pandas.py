"""What importing pandas alone takes: the least an analyzer that returns tables pays beside reading."""

from __future__ import annotations

import pandas as pd

print(f'{{"pandas": "{pd.__version__}"}}')
