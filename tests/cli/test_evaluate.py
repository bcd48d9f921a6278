"""eightfold evaluate pocket: the table, the JSON and what is refused. What is measured is faked."""

import json

import pytest

from eightfold.core.errors import CheckpointError
from eightfold.core.progress import Progress
from eightfold.evaluate import pocket

KINDS = {"colour": 0.995, "shape": 0.98}
REPORT = {
    "model": "pocket",
    "judge": {**KINDS, "count": {"1": 1.0, "2": 0.99, "3": 0.9}, "all kinds of two": 0.97, "relation of two": {"found": 0.96}},
    "scenes": {"pictures": 1000, "psnr": 36.553},
    "photographs": {"psnr": {"coffee": 26.1}, "mean": 26.1},
    "reconstructions": {"pictures": 1000, "reconstructions": KINDS, "renders": KINDS},
    "prompts": {
        "prompts": 200,
        "both": 0.9,
        "exactly one": 0.93,
        **KINDS,
        "pairs": {"red cube": {"prompts": 6, "both": 1.0}, "blue cone": {"prompts": 6, "both": 0.25}},
    },
    "relations": {"prompts": 200, "count": 0.8, "both solids": 0.7, "both solids and relation": 0.6, "all": 0.5},
    "sizes": {"prompts": 50, "128x128": {"mean count": 1.02, "exactly one": 0.98}},
    "frechet": {"pictures": 5000, "generated": 1.5, "renders": 0.02},
    "seconds": {"median": 0.4, "pictures": 3, "threads": 2, "load": 0.5},
}


@pytest.fixture
def measured(monkeypatch):
    """`evaluate_pocket` without its work; the list holds what it was called with."""
    calls = []

    def evaluate(model, folder, *, amounts):
        calls.append((model, folder, amounts))
        yield Progress(task="scenes", number=1, total=1)
        folder.mkdir(parents=True, exist_ok=True)
        report = {name: figure for name, figure in REPORT.items() if name != "frechet" or amounts.pictures}
        (folder / "report.json").write_text(json.dumps(report))

    monkeypatch.setattr(pocket, "evaluate_pocket", evaluate)
    return calls


def test_the_table(eightfold, measured):
    answer = eightfold("evaluate", "pocket", "--out", "figures")
    assert answer.code == 0, answer.err
    rows = dict(line.split("  ", 1) for line in answer.out.splitlines() if "  " in line)
    rows = {name: value.strip() for name, value in rows.items()}
    assert rows["PSNR of 1000 scenes"] == "36.55 dB"
    assert rows["200 prompts: colour, shape, both"] == "99.5 %, 98.0 %, 90.0 %"
    assert rows["200 prompts: least right pairs"].startswith("blue cone 25.0 %")
    assert rows["solids at 128x128"] == "1.02, exactly one 98.0 %"
    assert rows["Fréchet distance, 5000 pictures"] == "1.5 (renders 0.02)"
    assert answer.out.splitlines()[-1] == "figures/report.json"
    assert measured[0][2].pictures == 5000
    assert (measured[0][0].placement.device.type, str(measured[0][1])) == ("cpu", "figures")


def test_the_distance_left_out_is_not_reported(eightfold, measured):
    answer = eightfold("evaluate", "pocket", "--pictures", 0, "--json")
    assert answer.code == 0, answer.err
    assert "frechet" not in answer.results and answer.results["path"] == "runs/evaluate-pocket/report.json"
    assert answer.results["scenes"] == REPORT["scenes"]
    assert "Fréchet" not in eightfold("evaluate", "pocket", "--pictures", 0).out


@pytest.mark.usefixtures("unloadable")
@pytest.mark.parametrize("pictures", ["-1", "1", "2.5", "many"])
def test_impossible_counts(refuse, pictures):
    assert pictures in refuse("evaluate", "pocket", "--pictures", pictures)


@pytest.mark.usefixtures("unloadable")
def test_a_folder_that_cannot_be_written(refuse, tmp_path):
    (tmp_path / "file").write_text("")
    assert "file" in refuse("evaluate", "pocket", "--out", "file")
    (tmp_path / "figures" / "report.json").mkdir(parents=True)
    assert "report.json" in refuse("evaluate", "pocket", "--out", "figures")


def test_models_that_cannot_be_measured(refuse, tmp_path):
    assert "pockte" in refuse("evaluate", "pocket", "--model", "pockte")
    (tmp_path / "text.safetensors").write_text("no weights")
    assert "text.safetensors" in refuse("evaluate", "pocket", "--model", "text.safetensors")


def test_a_damaged_cache_is_one_line(refuse, monkeypatch):
    def evaluate(*_, **__):
        raise CheckpointError("scenes-0.json is damaged", hint="remove it: it is measured again")

    monkeypatch.setattr(pocket, "evaluate_pocket", evaluate)
    assert "scenes-0.json is damaged" in refuse("evaluate", "pocket")


def test_help(eightfold):
    answer = eightfold("evaluate", "pocket", "--help")
    assert answer.code == 0 and all(f" {option} " in answer.out for option in ("--model", "--out", "--pictures", "--json"))
    assert "evaluate" in eightfold().out
