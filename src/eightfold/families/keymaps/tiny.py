"""The tiny autoencoder (madebyollin/taesd, taesd.py): numbered lists, in which the decoder's first entry is the clamp, without weights.

Files that hold one half alone name its entries by their numbers only.
"""

from ...specs.keymap import Keymap, Row

COMFY_TINY = Keymap(name="tiny of ComfyUI", rows=(Row("taesd_encoder.", "encoder."), Row("taesd_decoder.", "decoder.")))

TINY = Keymap(
    name="tiny",
    rows=(Row("encoder.{n}.", "encoder.layers.{n}."), Row("decoder.{n+1}.", "decoder.layers.{n}.")),
    spellings=(COMFY_TINY,),
)
TINY_ENCODER = Keymap(name="encoder of tiny", rows=(Row("{n}.", "encoder.layers.{n}."),))
TINY_DECODER = Keymap(name="decoder of tiny", rows=(Row("{n+1}.", "decoder.layers.{n}."),))
