"""The lists of families: those whose files are known, of these the ones that can draw here, and the ControlNets that are made for them."""

from ..specs.control import KnownControl
from ..specs.family import Family, KnownFamily
from .chroma import CHROMA, RADIANCE
from .controls import SD1_CONTROL, SD2_CONTROL, SDXL_CONTROL
from .flux1 import FLUX1_FAMILY
from .flux2 import FLUX2_FAMILY
from .hunyuan_image import HUNYUAN_IMAGE
from .lumina2 import LUMINA2
from .pixart import PIXART_ALPHA, PIXART_SIGMA
from .pixelflow import PIXELFLOW
from .pocket import POCKET_FAMILY
from .qwen_image import QWEN_IMAGE
from .sd1 import SD1
from .sd2 import SD2
from .sd3 import SD3_FAMILY
from .sdxl import SDXL_FAMILY

KNOWN_FAMILIES: tuple[KnownFamily, ...] = (
    POCKET_FAMILY,
    SD1,
    SD2,
    SDXL_FAMILY,
    PIXART_ALPHA,
    PIXART_SIGMA,
    SD3_FAMILY,
    FLUX1_FAMILY,
    LUMINA2,
    QWEN_IMAGE,
    FLUX2_FAMILY,
    HUNYUAN_IMAGE,
    PIXELFLOW,
    CHROMA,
    RADIANCE,
)
FAMILIES: tuple[Family, ...] = (POCKET_FAMILY, SD1, SD2, SDXL_FAMILY)
KNOWN_CONTROLS: tuple[KnownControl, ...] = (SD1_CONTROL, SD2_CONTROL, SDXL_CONTROL)
