"""The evaluation of the pocket model: what is asked, the rules that judge it, and that nothing is measured twice."""

import json
from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

import eightfold as ef
from eightfold.core.errors import CheckpointError, EightfoldError, RequestError
from eightfold.core.progress import Progress
from eightfold.data.scenes import COLOURS, SHAPES, draw_scene, relate
from eightfold.evaluate import drawing, generated, pocket, renders
from eightfold.evaluate.asked import (
    PAIRS,
    RELATIONS,
    Asked,
    ask_for_one,
    ask_for_two,
    describe,
    judge_picture,
    name_pair,
    pick_found,
    relate_found,
)
from eightfold.evaluate.drawing import Drawing, draw_image, draw_images, read_images
from eightfold.evaluate.generated import score_prompts, score_relations
from eightfold.evaluate.judge import Finding, JudgeConfig
from eightfold.evaluate.pocket import MEASURES, evaluate_pocket, read_report
from eightfold.evaluate.renders import Amounts, compare_lone, compare_relations

TINY = JudgeConfig(scenes=2, width=4, steps=1, batch=2)
FEW = Amounts(lone=4, two=2, three=2, large=1, scenes=2, prompts=2, relations=2, sizes=1, pictures=3, timed=1)


def find(colour, shape, x=0.0, depth=5.0, confidence=0.9):
    kinds = {"colours": dict.fromkeys(COLOURS, 0.125), "shapes": dict.fromkeys(SHAPES, 0.25)}
    return Finding(colour=colour, shape=shape, x=x, y=0.0, depth=depth, confidence=confidence, **kinds)


def find_all(scene):
    """What a perfect judge finds."""
    found = []
    for solid in scene.solids:
        across = scene.camera.to_frame(solid.x, solid.height, solid.z)[0]
        found.append(find(solid.colour, solid.shape, across, scene.camera.to_view(solid.x, solid.height, solid.z)[2]))
    return found


@pytest.fixture(scope="module")
def model():
    """The embedded model in two steps."""
    loaded = ef.load("pocket", device="cpu")
    return replace(loaded, family=replace(loaded.family, defaults=replace(loaded.family.defaults, steps=2)))


@pytest.fixture
def here(monkeypatch, model):
    """Pictures are drawn in this process; the list holds how many shards were."""
    shards = []

    def run(work, tasks):
        for index, task in enumerate(tasks):
            work(*task)
            shards.append(task)
            yield index

    monkeypatch.setattr("eightfold.data.pictures.run_in_processes", run)
    monkeypatch.setattr(drawing, "run_in_processes", run)
    monkeypatch.setattr(drawing, "load_once", lambda source: model)
    return shards


def test_prompts_go_through_all_pairs(model):
    asked = ask_for_one(200, 7)
    counts = Counter(one.solids[0] for one in asked)
    assert {*counts} == {*PAIRS} and {*counts.values()} == {6, 7}
    assert len({*(one.solids[0] for one in asked[:32])}) == 32
    assert asked == ask_for_one(200, 7) != ask_for_one(200, 8)
    for one in [*asked[:32], *ask_for_two(40, 7)]:
        model.text.check(one.prompt, ignore_unknown=False)
        assert all(name_pair(pair) in one.prompt for pair in one.solids)
    assert any(one.prompt.startswith("an orange") for one in asked)


def test_pairs_are_asked_in_every_relation():
    asked = ask_for_two(200, 7)
    assert Counter(one.relation for one in asked) == dict.fromkeys(RELATIONS, 50)
    assert all(one.solids[0] != one.solids[1] and one.relation in one.prompt for one in asked)


def test_the_rule_finds_what_captions_tell():
    """With true places and distances every relation that a caption could tell is found, and its opposite never."""
    scenes = [draw_scene(3, number, counts=(0.0, 1.0, 0.0)) for number in range(100)]
    told = 0
    for scene in scenes:
        first, second = find_all(scene)
        clear = relate(*scene.solids, scene.camera)
        told += len(clear)
        found = relate_found(first, second)
        opposite = relate_found(second, first)
        assert {RELATIONS.index(one) ^ 1 for one in found} == {RELATIONS.index(one) for one in opposite}
        assert all(RELATIONS[RELATIONS.index(one) ^ 1] not in found for one in clear)
        # the picture's shift is unknown, which moves a solid aside by its distance: the last doubt is small
        assert {*clear} <= {*found} or scene.camera.shift != (0.0, 0.0)
    missed = compare_relations([find_all(scene) for scene in scenes], scenes)
    assert missed["told"] == told > 60
    assert missed["found"] > 0.98 and missed["opposite found"] == 0


def test_a_picture_is_judged():
    asked = Asked(prompt="", solids=(("red", "cube"), ("blue", "sphere")), relation="left of")
    left, right, other = find("red", "cube", -0.4), find("blue", "sphere", 0.4), find("green", "cone", 0.0, 3.0)
    assert judge_picture(asked, [left, right]).all
    assert not judge_picture(asked, [find("red", "cube", 0.4), find("blue", "sphere", -0.4)]).relation
    crowd = judge_picture(asked, [right, left, other])
    assert (crowd.count, crowd.solids, crowd.relation, crowd.all) == (False, True, True, False)
    for few in ([], [left], [left, find("blue", "cube", 0.4)]):
        verdict = judge_picture(asked, few)
        assert not (verdict.solids or verdict.relation or verdict.all)
    behind = replace(asked, relation="behind")
    assert judge_picture(behind, [find("red", "cube", 0.0, 7.0), right]).relation
    assert not judge_picture(behind, [find("red", "cube", 0.0, 4.0), right]).relation
    sure, unsure = find("red", "cube", 0.1), find("red", "cube", 0.7, confidence=0.4)
    assert pick_found([("red", "cube")], [sure, unsure]) == [sure]
    assert describe([left, right]) == "red cube + blue sphere" and describe([]) == "nothing"


def test_prompts_are_scored():
    asked = [Asked(prompt="", solids=(pair,)) for pair in [("red", "cube"), ("red", "cube"), ("blue", "cone"), ("blue", "cone")]]
    found = [[find("red", "cube")], [find("red", "cone"), find("red", "cube")], [find("cyan", "cone")], []]
    score = score_prompts(asked, found)
    assert (score["colour"], score["shape"], score["both"], score["exactly one"]) == (0.5, 0.5, 0.25, 0.5)
    assert score["pairs"] == {"red cube": {"prompts": 2, "both": 0.5}, "blue cone": {"prompts": 2, "both": 0.0}}
    assert score["shapes asked and found"]["cube"] == {"sphere": 0, "cube": 1, "cylinder": 0, "cone": 1, "nothing": 0}
    assert score["shapes asked and found"]["cone"]["nothing"] == 1


def test_relations_are_scored():
    asked = [replace(one, relation="left of") for one in ask_for_two(4, 0)]
    found = [[find(*one.solids[0], -0.5), find(*one.solids[1], 0.5)] for one in asked]
    found[1].reverse()
    found[2] = [*found[2], find("red", "cone", 0.9, confidence=0.1)]
    found[3] = found[3][:1]
    score = score_relations(asked, found)
    assert (score["count"], score["both solids"], score["both solids and relation"], score["all"]) == (0.5, 0.75, 0.75, 0.5)
    assert score["relation where both are there"] == 1
    assert score["all by relation"]["left of"] == 0.5


def test_lone_solids_are_compared():
    scenes = [draw_scene(1, number) for number in range(4)]
    found = [find_all(scene) for scene in scenes]
    assert compare_lone(found, scenes) == {"colour": 1.0, "shape": 1.0}
    found[0], found[1] = [], [replace(found[1][0], colour="none")]
    assert compare_lone(found, scenes) == {"colour": 0.5, "shape": 0.75}


def test_an_interrupted_drawing_goes_on(model, here, tmp_path, monkeypatch):
    monkeypatch.setattr(drawing, "SHARD", 2)
    monkeypatch.setattr(drawing, "draw_image", lambda model, drawing: torch.full((1, 3, 8, 8), drawing.seed / 100))
    drawings = [Drawing(prompt="a red cube", seed=seed, size=8) for seed in range(5)]
    run = draw_images(model, drawings, tmp_path, "prompts")
    assert next(run).number == 2
    run.close()
    assert [progress.number for progress in draw_images(model, drawings, tmp_path, "prompts")] == [4, 5]
    assert len(here) == 3 and not list(draw_images(model, drawings, tmp_path, "prompts"))
    pixels = read_images(model, drawings, tmp_path)
    assert pixels.dtype == torch.uint8 and pixels[:, 0, 0, 0].tolist() == [128, 129, 130, 131, 133]
    for other in ([*drawings[:4], replace(drawings[4], seed=9)], drawings[:4]):
        assert {*drawing.to_paths(model, other, tmp_path)}.isdisjoint(drawing.to_paths(model, drawings, tmp_path))
    changed = change(model)
    assert {*drawing.to_paths(changed, drawings, tmp_path)}.isdisjoint(drawing.to_paths(model, drawings, tmp_path))
    drawing.to_paths(model, drawings, tmp_path)[1].write_bytes(b"half")
    with pytest.raises(CheckpointError, match="damaged"):
        read_images(model, drawings, tmp_path)


def change(model):
    """The same model with other weights, as far as anybody asks."""
    other = replace(model)
    vars(other)["fingerprint"] = "another"
    return other


def test_the_second_pass_starts_from_the_enlarged_picture(model, monkeypatch):
    """From a time with next to no noise it gives back the first pass, enlarged and through the autoencoder."""
    monkeypatch.setattr(drawing, "AGAIN", 0.01)
    model = replace(model, family=replace(model.family, defaults=replace(model.family.defaults, steps=100)))
    first = draw_image(model, Drawing(prompt="a red cube", seed=3, size=32))
    image = draw_image(model, Drawing(prompt="a red cube", seed=3, size=64, passes=2))
    expected = renders.reconstruct(model, F.interpolate(first, scale_factor=2, mode="bicubic").clamp(-1, 1))
    assert image.shape == (1, 3, 64, 64)
    assert (image - expected).abs().mean() < 0.05
    assert not torch.equal(image, expected)


def test_both_passes_are_drawn_alike_every_time(model):
    for passes in (1, 2):
        one = Drawing(prompt="a red cube", seed=3, size=32, passes=passes)
        image = draw_image(model, one)
        assert image.shape == (1, 3, 32, 32) and torch.equal(image, draw_image(model, one))


@pytest.mark.usefixtures("here")
def test_every_figure_is_measured_once(model, tmp_path, monkeypatch):
    photo = torch.randint(0, 256, (1, 3, 40, 32), dtype=torch.uint8)
    for module in (renders, pocket):
        monkeypatch.setattr(module, "read_photographs", lambda: {"photo": photo})
    monkeypatch.setattr(renders, "SHORT_SIDE", 16)
    monkeypatch.setattr(generated, "PASSES", {"32x32": (32, 1), "64x64 in two passes": (64, 2)})
    events = list(evaluate_pocket(model, tmp_path, amounts=FEW, judge=TINY))
    assert all(event.number <= event.total for event in events)
    report = read_report(tmp_path)
    assert {*MEASURES, "seconds", "model", "fingerprint", "versions"} == {*report}
    assert report["fingerprint"] == model.fingerprint and report["judge"]["key"] == TINY.key
    assert report["frechet"]["pictures"] == 3 and report["frechet"]["generated"] >= 0
    assert report["seconds"]["median"] > 0 and report["photographs"]["mean"] > 5
    assert all((tmp_path / name).stat().st_size > 1000 for name in pocket.SHEETS)

    def fail(bench):
        raise AssertionError("measured twice")

    monkeypatch.setattr(pocket, "MEASURES", dict.fromkeys(MEASURES, fail))
    events = list(evaluate_pocket(model, tmp_path, amounts=FEW, judge=TINY))
    assert {event.task for event in events} == {"seconds a picture"}
    again = read_report(tmp_path)
    assert {**again, "seconds": 0} == {**report, "seconds": 0}
    list(evaluate_pocket(model, tmp_path, amounts=replace(FEW, pictures=0), judge=TINY))
    assert "frechet" not in read_report(tmp_path)
    with pytest.raises(AssertionError, match="twice"):
        list(evaluate_pocket(model, tmp_path, amounts=replace(FEW, pictures=2), judge=TINY))


@pytest.fixture
def counted(model, tmp_path, monkeypatch):
    """Figures that only count how often they are measured, and a run that yields nothing else."""
    calls = Counter()

    def build(name):
        def measure(bench):
            yield Progress(task=name, number=0, total=1)
            calls[name] += 1
            return {"value": calls[name]}

        return measure

    monkeypatch.setattr(pocket, "MEASURES", {name: build(name) for name in ("scenes", "prompts", "frechet")})
    monkeypatch.setattr(pocket, "train_judge", lambda folder, config: iter(()))
    monkeypatch.setattr(pocket, "load_judge", lambda folder, config: renders.Judge(renders_network(), config.key))
    monkeypatch.setattr(pocket, "measure_seconds", lambda bench: {"median": 1.0})
    monkeypatch.setattr(pocket, "write_sheet", lambda *_: None)
    return calls


def renders_network():
    from eightfold.evaluate.judge import JudgeNetwork

    return JudgeNetwork(1)


def test_a_run_goes_on_where_it_stopped(model, tmp_path, counted):
    run = evaluate_pocket(model, tmp_path, judge=TINY)
    assert [next(run).task, next(run).task] == ["scenes", "prompts"]
    run.close()
    assert not (tmp_path / "report.json").exists()
    list(evaluate_pocket(model, tmp_path, judge=TINY))
    assert counted == {"scenes": 1, "prompts": 1, "frechet": 1}
    list(evaluate_pocket(model, tmp_path, judge=replace(TINY, seed=5)))
    list(evaluate_pocket(change(model), tmp_path, judge=TINY))
    assert counted == {"scenes": 3, "prompts": 3, "frechet": 3}
    list(evaluate_pocket(model, tmp_path, amounts=Amounts(pictures=10), judge=TINY))
    assert counted == {"scenes": 3, "prompts": 3, "frechet": 4}


@pytest.mark.parametrize("content", ["", "{", "[1]", "\x00\xff"])
def test_a_damaged_figure_is_named(model, tmp_path, counted, content):
    list(evaluate_pocket(model, tmp_path, judge=TINY))
    (path,) = tmp_path.glob("scenes-*.json")
    assert json.loads(path.read_text()) == {"value": 1}
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(CheckpointError, match=r"scenes-.*damaged") as error:
        list(evaluate_pocket(model, tmp_path, judge=TINY))
    assert "remove" in error.value.hint


def test_what_cannot_be_measured_is_refused_before_any_work(model, tmp_path, monkeypatch):
    other = replace(model, family=replace(model.family, name="other"))
    for wrong, amounts in ((other, FEW), (model, replace(FEW, pictures=-1)), (model, replace(FEW, pictures=1))):
        with pytest.raises(RequestError) as error:
            evaluate_pocket(wrong, tmp_path, amounts=amounts, judge=TINY)
        assert error.value.hint
    monkeypatch.setitem(__import__("sys").modules, "skimage", None)
    with pytest.raises(EightfoldError, match="scikit-image") as error:
        evaluate_pocket(model, tmp_path, amounts=FEW, judge=TINY)
    assert "eightfold[demo]" in error.value.hint
    assert not list(tmp_path.iterdir())


def test_four_pictures_make_one():
    pixels = torch.arange(9, dtype=torch.uint8)[:, None, None, None].expand(9, 3, 2, 2)
    tiled = renders.tile(pixels)
    assert tiled.shape == (2, 3, 4, 4)
    assert tiled[1, 0].tolist() == [[4, 4, 5, 5], [4, 4, 5, 5], [6, 6, 7, 7], [6, 6, 7, 7]]


def test_large_pictures_are_halved_for_the_judge(monkeypatch):
    seen = []
    monkeypatch.setattr(renders, "find_objects", lambda judge, images: seen.append(images.shape) or [[]] * len(images))
    for size, count in ((128, 300), (256, 2)):
        assert len(renders.find_in(renders.Judge(renders_network(), "key"), torch.zeros(count, 3, size, size, dtype=torch.uint8))) == count
    assert [tuple(shape) for shape in seen] == [(256, 3, 128, 128), (44, 3, 128, 128), (2, 3, 128, 128)]
