"""Autoencoders that are known by name.

Sizes and hashes of the files: those that huggingface.co states of stabilityai/sd-vae-ft-mse-original, stabilityai/sdxl-vae,
madebyollin/sdxl-vae-fp16-fix and black-forest-labs/FLUX.1-schnell, as many public installers repeat them. Nobody publishes our kind of
fingerprint: there is one of what comes with this package alone.
"""

from ..specs.published import PublishedFile, PublishedWeights

PUBLISHED_FILES = (
    PublishedFile(
        name="vae-ft-mse-840000-ema-pruned",
        space="sd",
        bytes=334_641_190,
        sha256="735e4c3a447a3255760d7f86845f09f937809baa529c17370d83e4c3758f3c75",
    ),
    PublishedFile(
        name="sdxl_vae",
        space="sdxl",
        bytes=334_641_164,
        sha256="63aeecb90ff7bc1c115395962d3e803571385b61938377bc7089b36e81e92e2e",
    ),
    PublishedFile(
        name="sdxl-vae-fp16-fix",
        space="sdxl",
        bytes=334_641_162,
        sha256="235745af8d86bf4a4c1b5b4f529868b37019a10f7c0b2e79ad0abca3a22bc6e1",
    ),
    PublishedFile(
        name="FLUX.1 ae",
        space="flux1",
        bytes=335_304_388,
        sha256="afc8e28272cd15db3919bacdb6918ce9c1ed22e96cb12c4d5ed0fba823529e38",
    ),
)
PUBLISHED_WEIGHTS = (
    PublishedWeights(
        name="pocket",
        space="pocket",
        parameters=2_059_287,
        encoder="55fef45d8aacc9cd4a842b9520d4914c9c06d4f4c8f6a961f4425516394aaaee",
        decoder="c1f39c0207c550d9471c77fbacec132a76f6d5c4922b33445cb3b1cbf980597b",
    ),
)
