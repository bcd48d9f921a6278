"""The graph of a network says what its stages do; a network that it cannot say is run all the same."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from eightfold.autoencoders.kl import KLAutoencoder
from eightfold.autoencoders.tiny import Double, Halve, Rectify, Scale
from eightfold.codec.codec import Codec
from eightfold.codec.lower import NotLowered, lower
from eightfold.nn.channelnorm import ChannelNormSiLU
from eightfold.nn.graph import Convolve
from eightfold.nn.stages import Convolution, NormSiLU, ResidualBlock, State, run_stages, save_skip
from toyruns import CASES, CONFIGS, Task, build_frame, build_graph, build_planner, draw_input, poison, run_plainly, run_plan
from toyspaces import TOYS
from weights import draw, randomise

WIDER = ResidualBlock(4, 6, groups=2, eps=1e-6)  # its shortcut is a convolution, its other way begins with a norm


class Negate(nn.Module):
    """A stage that no graph knows."""

    def forward(self, x: Tensor, state: State | None = None) -> Tensor:
        return -x


@pytest.mark.parametrize(("name", "task"), CASES)
@pytest.mark.parametrize("cells", [(3, 5), (1, 1), (2, 1)])
def test_graphs_are_the_plain_loop(name: str, task: Task, cells: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch)
    x = draw_input(name, task, *cells)
    expected = run_plainly(name, task, x)
    planner = build_planner(build_frame(build_graph(name, task), x))
    found = run_plan(planner, planner.plan(None), x, tmp_path)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 1e-5 * max(1, expected.abs().max())


@pytest.mark.parametrize(("name", "task"), CASES)
def test_sizes_are_known_before(name: str, task: Task) -> None:
    graph, downscale = build_graph(name, task), CONFIGS[name].downscale
    assert graph.nodes[-1].scale == (Fraction(1, downscale) if task == "encode" else downscale)
    assert all(source < number for number, node in enumerate(graph.nodes) for source in node.inputs)
    assert sum(node.layer is None for node in graph.nodes) == 1


def test_an_unknown_stage() -> None:
    with pytest.raises(NotLowered, match="Negate is no stage"):
        lower([Convolution(3, 4), Negate()], 3)


@pytest.mark.parametrize("reader", [Scale(1.0, 0.0), save_skip, NormSiLU(2, 4, eps=1e-6), Double(), Rectify(), WIDER])
@pytest.mark.parametrize("pending", [NormSiLU(2, 4, eps=1e-6), ChannelNormSiLU(4), Double(), Rectify()])
def test_what_is_pending_is_for_convolutions(pending: nn.Module, reader: nn.Module) -> None:
    with pytest.raises(NotLowered, match="other than a convolution"):
        lower([Convolution(3, 4), pending, reader], 3)
    graph = lower([Convolution(3, 4), pending, Convolution(4, 3)], 3)
    assert [type(node.layer) for node in graph.nodes[1:]] == [Convolve, Convolve]


@pytest.mark.parametrize("reader", [Convolution(4, 4, kernel=1), Halve(4)])
def test_only_whole_convolutions_enlarge(reader: nn.Module) -> None:
    with pytest.raises(NotLowered, match="enlarged"):
        lower([Convolution(3, 4), Double(), reader], 3)


@pytest.mark.parametrize("pending", [NormSiLU(2, 4, eps=1e-6), ChannelNormSiLU(4), Double()])
def test_nothing_is_pending_at_the_end(pending: nn.Module) -> None:
    with pytest.raises(NotLowered):
        lower([Convolution(3, 4), pending], 3)


def test_a_last_activation_is_made(tmp_path: Path) -> None:
    stages, x = [randomise(Convolution(3, 4), seed=2), Rectify()], draw(1, 3, 5, 7)
    planner = build_planner(build_frame(lower(stages, 3), x))
    with torch.no_grad():
        assert torch.allclose(run_plan(planner, planner.plan(None), x, tmp_path), run_stages(stages, x), atol=1e-6)


def test_a_time_embedding() -> None:
    block = ResidualBlock(4, 4, groups=2, eps=1e-6, embedding=8)
    with pytest.raises(NotLowered, match="time embedding"):
        lower([block], 4)


def test_a_network_without_a_graph_is_run_stage_by_stage() -> None:
    class Negative(KLAutoencoder):
        def decoder_stages(self):
            return [*super().decoder_stages(), Negate()]

    plain, network = (randomise(kind(TOYS["pocket"].autoencoder), seed=1) for kind in (KLAutoencoder, Negative))  # type: ignore[arg-type]
    codec = Codec(network=network, space=TOYS["pocket"], normalisation=TOYS["pocket"].normalisation, source="toy")
    raw = draw(1, 4, 3, 5)
    decoded = codec.decode_one(raw)
    assert torch.equal(decoded.image, -plain.decode(raw).detach().clamp(-1, 1))
    assert decoded.run == {"kernels": "torch, stage by stage: Negate is no stage that is known here"}
    with pytest.raises(NotLowered):
        codec.plan("decode", 40, 24)
