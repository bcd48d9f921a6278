"""Progress where standard error is no terminal: a line now and then, with the time that is left."""

import pytest

from eightfold.cli import console
from eightfold.core.progress import Progress


def test_time_left_is_reckoned_from_where_a_task_began(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    lines = console.Lines()
    for second, task, number in (
        (5, "pictures", 50),
        (30, "pictures", 100),
        (40, "training", 1001),
        (60, "training", 1003),
        (62, "training", 1004),
    ):
        now[0] = second
        lines.update(Progress(task=task, number=number, total=1103 if task == "training" else 100, figures={"loss": 0.25, "norm": 1.0}))
    said = capsys.readouterr().err.splitlines()
    # two steps of the resumed run took 20 s and a hundred are left; the tenth of a second since is too soon for another line
    assert said == ["pictures 100/100, about 0 s left loss 0.25", "training 1003/1103, about 1000 s left loss 0.25"]


def test_too_little_memory_for_one_input_leaves_the_others(capsys):
    outcome = console.Outcome()
    with outcome.attempt("large.png"):
        raise MemoryError
    with outcome.attempt("small.png"):
        outcome.add({"source": "small.png"}, "small.png", as_json=False)
    assert outcome.finish(as_json=False) == console.PARTLY
    assert "not enough memory" in capsys.readouterr().err


@pytest.mark.parametrize(("works", "as_json", "said"), [(True, False, "ran on cpu: why\n"), (True, True, ""), (False, False, "")])
def test_where_it_ran_is_said_if_it_did(capsys, works, as_json, said):
    outcome = console.Outcome()
    with outcome.attempt("small.png"):
        if not works:
            raise MemoryError
        outcome.add({"source": "small.png"}, "small.png", as_json=as_json)
    capsys.readouterr()
    outcome.finish(as_json=as_json, reason="cpu: why")
    assert capsys.readouterr().err == said
