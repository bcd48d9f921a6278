"""The one list of families."""

from .pocket import POCKET_FAMILY
from .sd1 import SD1

FAMILIES = (POCKET_FAMILY, SD1)
