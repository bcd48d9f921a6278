"""The judge: its truth, its loss, its findings and its training, on few pictures and few steps."""

from dataclasses import fields, replace

import pytest
import torch

from eightfold.core.errors import CheckpointError, ConfigError, OutputError
from eightfold.data.scenes import COLOURS, SHAPES, draw_scene, render
from eightfold.evaluate import judging
from eightfold.evaluate.judge import OUTPUTS, Judge, JudgeConfig, JudgeNetwork, features, find_objects, judge_path, load_judge
from eightfold.evaluate.judging import Truth, draw_batch, judge_loss, move, to_truth, train_judge

TINY = JudgeConfig(scenes=12, width=4, steps=3, batch=4)


@pytest.fixture
def here(monkeypatch):
    """Renders are drawn in this process."""

    def run(work, tasks):
        for index, task in enumerate(tasks):
            work(*task)
            yield index

    monkeypatch.setattr("eightfold.data.pictures.run_in_processes", run)


class Known(JudgeNetwork):
    """Says of every picture what it was given."""

    def __init__(self, cells):
        super().__init__(1)
        self.cells = cells

    def forward(self, half):
        return self.cells[: len(half)], torch.zeros(len(half), 4, 2, 2)


def tell(truth, grid=16):
    """Cells of a network that knows the truth."""
    cells = torch.zeros(len(truth.there), sum(OUTPUTS), grid, grid)
    cells[:, 0] = -9
    for number, slot in truth.there.nonzero().tolist():
        column, row = ((truth.place[number, slot] + 1) / 2 * grid).long().tolist()
        cells[number, :, row, column] = 0
        cells[number, 0, row, column] = 6 - slot
        cells[number, 1 + truth.colour[number, slot], row, column] = 9
        cells[number, 1 + len(COLOURS) + truth.shape[number, slot], row, column] = 9
        cells[number, -1, row, column] = truth.distance[number, slot]
    return cells


def test_truth_lies_on_the_solids():
    scenes = [draw_scene(4, number, counts=(0.3, 0.3, 0.4)) for number in range(12)]
    masks, truth = render(scenes, 64).masks, to_truth(scenes)
    assert truth.there.sum(dim=1).tolist() == [len(scene.solids) for scene in scenes]
    lone = [number for number, scene in enumerate(scenes) if len(scene.solids) == 1]
    assert len(lone) > 1
    for number in lone:
        column, row = ((truth.place[number, 0] + 1) * 32).long().tolist()
        assert masks[number, 0, row, column]


def test_known_cells_are_found():
    scenes = [draw_scene(5, number, counts=(0.3, 0.3, 0.4)) for number in range(12)]
    truth = to_truth(scenes)
    found = find_objects(Judge(Known(tell(truth)), "key"), torch.zeros(12, 3, 128, 128))
    for findings, scene in zip(found, scenes, strict=True):
        assert [(one.colour, one.shape) for one in findings] == [(solid.colour, solid.shape) for solid in scene.solids]
        for one, solid in zip(findings, scene.solids, strict=True):
            across, up, _ = scene.camera.to_frame(solid.x, solid.height, solid.z)
            assert abs(one.x - across) <= 1 / 16 + 1e-6 and abs(one.y - up) <= 1 / 16 + 1e-6
            assert one.depth == pytest.approx(scene.camera.to_view(solid.x, solid.height, solid.z)[2], rel=1e-4)
            assert sum(one.colours.values()) == pytest.approx(1, abs=1e-5) and [*one.shapes] == [*SHAPES]
        assert [one.confidence for one in findings] == sorted((one.confidence for one in findings), reverse=True)


def test_neighbours_are_one_solid_and_doubt_is_none():
    cells = torch.full((2, sum(OUTPUTS), 16, 16), -9.0)
    cells[0, 0, 4, 4:7] = torch.tensor([2.0, 3.0, 2.5])
    cells[0, 0, 4, 9] = 1.0
    cells[1, 0, 0, 0] = -2.0
    found = find_objects(Judge(Known(cells), "key"), torch.zeros(2, 3, 128, 128))
    assert [round((one.x + 1) * 8 - 0.5) for one in found[0]] == [5, 9]
    assert found[1] == []


def test_the_loss_likes_the_truth():
    truth = to_truth([draw_scene(6, number, counts=(0.4, 0.3, 0.3)) for number in range(8)])
    right = judge_loss(tell(truth), truth)
    for wrong in (truth.colour, truth.shape):
        other = (wrong + 1) % 4
        fields_ = {"colour": other} if wrong is truth.colour else {"shape": other}
        assert judge_loss(tell(replace(truth, **fields_)), truth) > right + 1
    assert judge_loss(tell(replace(truth, place=-truth.place)), truth) > right + 1
    assert judge_loss(tell(replace(truth, distance=truth.distance + 1)), truth) > right + 0.1
    nothing = replace(truth, there=torch.zeros_like(truth.there))
    assert torch.isfinite(judge_loss(tell(truth), nothing))


@pytest.mark.parametrize(("zoom", "side", "shift"), [(0.7, 1, (0.2, -0.1)), (1.8, -1, (-0.3, 0.25)), (1.0, -1, (0.0, 0.0))])
def test_truth_moves_with_the_picture(zoom, side, shift):
    rows, columns = torch.meshgrid(torch.arange(64) - 40, torch.arange(64) - 27, indexing="ij")
    images = torch.exp(-(rows**2 + columns**2) / 20).expand(1, 3, 64, 64)
    place = torch.zeros(1, 3, 2)
    place[0, 0] = torch.tensor([(27 + 0.5) / 32 - 1, (40 + 0.5) / 32 - 1])
    place[0, 1] = torch.tensor([0.98, 0.98])
    kinds = torch.zeros(1, 3, dtype=torch.long)
    truth = Truth(place, torch.zeros(1, 3), kinds, kinds, torch.tensor([[True, True, False]]))
    moved, after = move(images, truth, torch.tensor([zoom]), torch.tensor([float(side)]), torch.tensor([shift]))
    row, column = divmod(int(moved[0, 0].argmax()), 64)
    expected = ((after.place[0, 0] + 1) * 32 - 0.5).tolist()
    assert (column, row) == (pytest.approx(expected[0], abs=0.8), pytest.approx(expected[1], abs=0.8))
    assert after.distance[0, 0].exp().item() == pytest.approx(1 / zoom)
    assert after.there[0].tolist() == [
        True,
        bool((place[0, 1] * torch.tensor([side, 1]) * zoom + torch.tensor(shift)).abs().max() < 1),
        False,
    ]


def test_a_batch_depends_on_its_step_alone():
    pixels = torch.randint(0, 256, (12, 3, 64, 64), dtype=torch.uint8)
    truth = to_truth([draw_scene(1, number) for number in range(12)])
    batches = [draw_batch(pixels, truth, TINY, step)[0] for step in (0, 1, 0)]
    assert torch.equal(batches[0], batches[2]) and not torch.equal(batches[0], batches[1])
    assert batches[0].shape == (4, 3, 64, 64)


@pytest.mark.usefixtures("here")
def test_a_judge_is_trained_once_and_the_same(tmp_path):
    events = list(train_judge(tmp_path / "a", TINY))
    assert [event.number for event in events if event.task == "judge"] == [1, 2, 3]
    stamp = judge_path(tmp_path / "a", TINY).stat().st_mtime_ns
    assert list(train_judge(tmp_path / "a", TINY)) == []
    assert judge_path(tmp_path / "a", TINY).stat().st_mtime_ns == stamp
    list(train_judge(tmp_path / "b", TINY))
    assert judge_path(tmp_path / "a", TINY).read_bytes() == judge_path(tmp_path / "b", TINY).read_bytes()
    judge = load_judge(tmp_path / "a", TINY)
    assert judge.key == TINY.key and not judge.network.training


@pytest.mark.usefixtures("here")
def test_training_goes_down(tmp_path):
    config = replace(TINY, scenes=16, width=8, steps=40, batch=6)
    losses = [event.figures["loss"] for event in train_judge(tmp_path, config) if event.task == "judge"]
    assert sum(losses[-10:]) < 0.6 * sum(losses[:10])


@pytest.mark.parametrize(("height", "width"), [(16, 16), (128, 128), (256, 256), (100, 131)])
def test_any_size_is_looked_at(height, width):
    judge = Judge(JudgeNetwork(4).eval(), "key")
    images = torch.rand(3, 3, height, width) * 2 - 1
    pooled = features(judge, images)
    assert pooled.shape == (3, 16) and torch.isfinite(pooled).all()
    assert len(find_objects(judge, images)) == 3
    assert torch.allclose(features(judge, images[1:2]), pooled[1:2], atol=1e-5)


def test_every_setting_makes_another_judge():
    changed = {"counts": (1.0, 0.0, 0.0)}
    others = [replace(TINY, **{field.name: changed.get(field.name, getattr(TINY, field.name) * 2)}) for field in fields(JudgeConfig)]
    assert len({TINY.key, *(other.key for other in others)}) == len(others) + 1


def test_the_settings_in_configs_use_other_seeds():
    from pathlib import Path

    from eightfold.core.config import read_toml
    from eightfold.training.config import AutoencoderConfig, DenoiserConfig

    configs = Path(__file__).parent.parent.parent / "configs"
    for path in configs.glob("*.toml"):
        kind = DenoiserConfig if "family" in path.read_text().split("[")[0] else AutoencoderConfig
        assert read_toml(path, kind).pictures.seed not in (JudgeConfig().seed, 7, 8, 9), path


@pytest.mark.usefixtures("here")
def test_what_cannot_be_a_judge(tmp_path):
    with pytest.raises(ConfigError):
        replace(TINY, steps=0)
    with pytest.raises(CheckpointError) as missing:
        load_judge(tmp_path, TINY)
    assert missing.value.hint
    judge_path(tmp_path, TINY).write_bytes(b"no judge")
    with pytest.raises(CheckpointError, match="judge-") as damaged:
        load_judge(tmp_path, TINY)
    assert "remove" in damaged.value.hint
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        list(judging.train_judge(tmp_path / "file", TINY))
