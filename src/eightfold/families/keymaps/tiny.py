"""The tiny autoencoder (madebyollin/taesd, taesd.py): numbered lists, in which the decoder's first entry is the clamp, without weights.

Files that hold one side alone name it by its numbers only: put `encoder.` or `decoder.` in front first.
"""

from ...specs.keymap import Keymap, Row

COMFY_TINY = Keymap(name="tiny of ComfyUI", rows=(Row("taesd_encoder.", "encoder."), Row("taesd_decoder.", "decoder.")))

TINY = Keymap(
    name="tiny",
    rows=(Row("encoder.{n}.", "encoder.layers.{n}."), Row("decoder.{n+1}.", "decoder.layers.{n}.")),
    spellings=(COMFY_TINY,),
)
