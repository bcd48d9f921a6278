"""The one list of keymaps: other layout to ours. PixelFlow and Qwen-Image's transformer have one layout."""

from .clip import CLIP, OPENCLIP
from .control import SD_CONTROL
from .flux1 import CHROMA, FLUX1, RADIANCE
from .flux2 import FLUX2
from .hunyuan import HUNYUAN, HUNYUAN_REFINER
from .hunyuan_vae import HUNYUAN_REFINER_VAE, HUNYUAN_VAE
from .kl import FLUX2_KL, KL
from .lumina2 import LUMINA2
from .pixart import PIXART
from .qwen_vae import QWEN_VAE
from .sd3 import SD3_LARGE, SD3_MEDIUM
from .tiny import TINY, TINY_DECODER, TINY_ENCODER
from .unet import SD_UNET, SDXL_UNET

AUTOENCODER_KEYMAPS = (KL, FLUX2_KL, QWEN_VAE, HUNYUAN_VAE, HUNYUAN_REFINER_VAE, TINY, TINY_ENCODER, TINY_DECODER)

TEXT_KEYMAPS = (CLIP, OPENCLIP)
CONTROL_KEYMAPS = (SD_CONTROL,)

DENOISER_KEYMAPS = (
    SD_UNET,
    SDXL_UNET,
    PIXART,
    SD3_MEDIUM,
    SD3_LARGE,
    FLUX1,
    FLUX2,
    LUMINA2,
    HUNYUAN,
    HUNYUAN_REFINER,
    CHROMA,
    RADIANCE,
)
