"""The text tower of CLIP (arXiv 2103.00020): the layers of transformers, run as far as they are read."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..specs.text import ClipConfig


class Read(NamedTuple):
    """What was read out of a tower; `pooled` is None where it was not asked for."""

    tokens: Float[Tensor, "b n d"]
    pooled: Float[Tensor, "b p"] | None


class ClipTower(nn.Module):
    """Parameter names are those of the folder `text_encoder` of diffusers."""

    def __init__(self, config: ClipConfig) -> None:
        """Imports transformers, which takes seconds the first time."""
        from transformers import CLIPTextConfig, CLIPTextModel
        from transformers.initialization import no_init_weights

        super().__init__()
        self.config = config
        theirs = CLIPTextConfig(
            vocab_size=config.vocabulary,
            hidden_size=config.width,
            intermediate_size=4 * config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            max_position_embeddings=config.tokens,
            hidden_act=config.activation,
        )
        with no_init_weights():  # starting values cost seconds, and all of them come from files
            self.text_model = CLIPTextModel(theirs)
        del self.text_model.embeddings.position_ids  # not needed here, and built on `meta` no file would ever fill it
        self.text_projection = None if config.projection is None else nn.Linear(config.width, config.projection, bias=False)

    @property
    def device(self) -> torch.device:
        return self.text_model.final_layer_norm.weight.device

    def embed(self, numbers: Int[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        """What the vocabulary holds for each token, without its position: here vectors of other words may be put in."""
        return self.text_model.embeddings.token_embedding(numbers)

    def forward(self, embedded: Float[Tensor, "b n d"], ends: Int[Tensor, " b"] | None, *, depth: int, norm: bool = True) -> Read:
        """`depth`: of how many layers the tokens are taken, the final norm behind them with `norm`.

        `ends` is the place of each row's end token; the pooled vector is made of what all layers say there. Without it, no layer behind
        `depth` runs.
        """
        body = self.text_model
        count = embedded.shape[1]
        x = embedded + body.embeddings.position_embedding.weight[:count]
        # A mask of our own holds for every kind of attention that transformers may choose
        mask = torch.full((count, count), float("-inf"), dtype=x.dtype, device=x.device).triu(1)[None, None]
        tokens = x
        for number, layer in enumerate(body.encoder.layers, 1):
            x = layer(x, mask)
            if number == depth:
                tokens = x
                if ends is None:
                    break
        pooled = None
        if ends is not None and self.text_projection is not None:
            at_end = x[torch.arange(len(x), device=x.device), ends]
            pooled = self.text_projection(body.final_layer_norm(at_end))
        return Read(body.final_layer_norm(tokens) if norm else tokens, pooled)
