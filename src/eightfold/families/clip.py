"""The CLIP text towers and how Stable Diffusion reads them.

Sources: the configurations of openai/clip-vit-large-patch14 and of OpenCLIP's ViT-H-14 and ViT-bigG-14 (mlfoundations/open_clip); what is
read of them: v1-inference.yaml of CompVis/stable-diffusion, v2-inference-v.yaml of Stability-AI/stablediffusion, sd_xl_base.yaml and
sd_xl_refiner.yaml of Stability-AI/generative-models. Zeros for a negative prompt that is not given: model_index.json of XL's base.
"""

from ..specs.text import ClipConfig, ClipReading, ClipText

# OpenAI's tokenizer pads with the end of the text, OpenCLIP's with token 0
CLIP_L = ClipConfig(name="clip-l", width=768, layers=12, heads=12, activation="quick_gelu", padding=49407)
OPENCLIP_H = ClipConfig(name="openclip-h", width=1024, layers=24, heads=16, activation="gelu", padding=0, layout="openclip")
OPENCLIP_BIGG = ClipConfig(
    name="openclip-bigg", width=1280, layers=32, heads=20, activation="gelu", projection=1280, padding=0, layout="openclip"
)

SD1_TEXT = ClipText(readings=(ClipReading(tower=CLIP_L, depth=12, norm=True),))
SD2_TEXT = ClipText(readings=(ClipReading(tower=OPENCLIP_H, depth=23, norm=True),))
BIGG_READING = ClipReading(tower=OPENCLIP_BIGG, depth=31, norm=False, pooled=True)
SDXL_TEXT = ClipText(readings=(ClipReading(tower=CLIP_L, depth=11, norm=False), BIGG_READING), zero_negative=True)
SDXL_REFINER_TEXT = ClipText(readings=(BIGG_READING,))
