"""What programs write into pictures: ours, A1111's text, ComfyUI's graph and InvokeAI's table."""

from __future__ import annotations

from typing import Any

RECORD: dict[str, Any] = {
    "prompt": "a red cube",
    "negative": "",
    "width": 512,
    "height": 768,
    "steps": 20,
    "sampler": "dpm++2m",
    "grid": "karras",
    "guidance": 7.5,
    "eta": 0.0,
    "seed": 42,
    "count": 1,
    "noise_source": "ours",
    "model": "sd1",
    "fingerprint": "0123456789abcdef",
    "decoder": "fedcba9876543210",
    "eightfold": "0.1.0",
}
A1111 = """photo of a cat, (detailed fur:1.2), <lora:add_detail:0.6>
soft light
Negative prompt: blurry, text,
watermark
Steps: 28, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 965400086, Size: 512x768, Model hash: 6ce0161689, \
Model: v1-5-pruned-emaonly, VAE hash: 735e4c3a44, VAE: vae-ft-mse-840000-ema-pruned.safetensors, Denoising strength: 0.4, Clip skip: 2, \
ENSD: 31337, Hires upscale: 2, Lora hashes: "add_detail: 7c6bad76eb54, other: 1", Version: v1.9.4"""
CORE: dict[str, Any] = {
    "app_version": "4.2.7",
    "generation_mode": "img2img",
    "positive_prompt": "a barn owl",
    "negative_prompt": "blurry",
    "width": 512,
    "height": 640,
    "seed": 3523168,
    "rand_device": "cpu",
    "cfg_scale": 7.5,
    "cfg_rescale_multiplier": 0,
    "steps": 30,
    "scheduler": "dpmpp_2m_k",
    "clip_skip": 1,
    "strength": 0.6,
    "model": {"key": "a", "hash": "blake3:b", "name": "dreamshaper", "base": "sd-1", "type": "main"},
    "vae": {"name": "mse", "hash": "c"},
    "loras": [{"model": {"name": "detail"}, "weight": 0.75}],
    "controlnets": [{"control_model": {"name": "canny"}}],
}


def build(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs, "_meta": {"title": kind}}


def build_graph() -> dict[str, Any]:
    """Text to picture with two LoRAs, clip skip and another autoencoder, as the page's default graph has it."""
    return {
        "3": build(
            "KSampler", seed=156680208700286, steps=20, cfg=8.0, sampler_name="dpmpp_2m", scheduler="karras", denoise=1.0,
            model=["11", 0], positive=["6", 0], negative=["7", 0], latent_image=["5", 0],
        ),
        "4": build("CheckpointLoaderSimple", ckpt_name="sd15.safetensors"),
        "5": build("EmptyLatentImage", width=512, height=768, batch_size=1),
        "6": build("CLIPTextEncode", text="a bottle, galaxy", clip=["12", 0]),
        "7": build("CLIPTextEncode", text="text, watermark", clip=["12", 0]),
        "8": build("VAEDecode", samples=["3", 0], vae=["13", 0]),
        "9": build("SaveImage", filename_prefix="ComfyUI", images=["8", 0]),
        "10": build("LoraLoader", lora_name="first.safetensors", strength_model=0.8, strength_clip=1.0, model=["4", 0], clip=["4", 1]),
        "11": build("LoraLoaderModelOnly", lora_name="second.safetensors", strength_model=0.5, model=["10", 0]),
        "12": build("CLIPSetLastLayer", stop_at_clip_layer=-2, clip=["10", 1]),
        "13": build("VAELoader", vae_name="mse.safetensors"),
    }  # fmt: skip
