"""The scripts in benchmarks/: what they make of their figures, and that they run."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from eightfold.core.errors import EightfoldError
from eightfold.pipelines.bundle import load_autoencoder

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "benchmarks"


@pytest.fixture(autouse=True)
def path(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))


def take(name):
    return importlib.import_module(name)


def run(wall, cpu, foreign=0.0, **more):
    return {"wall": wall, "cpu": cpu, "foreign": foreign, "peak": 2e9, "rise": 1e9, **more}


CONTESTANTS = {
    "ours": {"runs": [run(1, 2), run(1.5, 2.5), run(9, 2, **{"attention wall": 1.0})]},
    "diffusers": {"runs": [run(4, 8), run(4, 8, 0.3), run(4, 9)], "wait": "PASSIVE", "versions": {"diffusers": "1.0"}},
    "busy": {"runs": [run(2, 4, 0.5)], "largest error": 1e-5, "PSNR": 120.0},
    "blind": {"runs": [run(2, 4, None)], "largest error": 0.0, "PSNR": None},
    "broken": {"failed": "out of memory"},
}


def build_figures():
    case = {"contestants": CONTESTANTS, **take("codec_report").summarise(CONTESTANTS)}
    return {"processor": "one", "cores": 2, "threads": 2, "absent": {"other": "not installed: other"}, "cases": {"sd-decode-512": case}}


def test_medians_and_ratios():
    found = take("codec_report").summarise(CONTESTANTS)
    assert found["medians"]["ours"] == {"wall": 1.5, "cpu": 2, "foreign": 0, "peak": 2e9, "rise": 1e9}  # one run alone timed attention
    assert found["ratios"]["diffusers"]["cpu"] == 4 and found["ratios"]["diffusers"]["wall"] == pytest.approx(4 / 1.5)
    assert {*found["ratios"]} == {"diffusers", "busy", "blind"}


def test_a_wall_ratio_is_disturbed_by_a_tenth_of_a_core_or_by_not_knowing():
    found = take("codec_report").summarise(CONTESTANTS)
    assert found["foreign load"] == {"ours": 0, "diffusers": pytest.approx(0.025), "busy": 0.25, "blind": None}
    assert [found["ratios"][name]["disturbed"] for name in ("diffusers", "busy", "blind")] == [False, True, True]
    loud = {**CONTESTANTS, "ours": {"runs": [run(1, 2, 0.2)]}}
    assert take("codec_report").summarise(loud)["ratios"]["diffusers"]["disturbed"]


def test_outside_attention():
    def timed(wall, cpu, inside):
        return run(wall, cpu, **{"attention wall": inside, "attention cpu": inside})

    contestants = {"ours": {"runs": [timed(3, 4, 1)]}, "diffusers": {"runs": [timed(9, 9, 1), timed(11, 13, 3), timed(10, 10, 1)]}}
    found = take("codec_report").summarise(contestants)
    assert found["medians"]["diffusers"]["wall outside attention"] == 8
    assert found["ratios"]["diffusers"]["wall outside attention"] == 4 and found["ratios"]["diffusers"]["cpu outside attention"] == 3


def test_what_people_read(tmp_path, capsys):
    report, figures = take("codec_report"), build_figures()
    report.print_tables(figures, Console(width=150))
    told = capsys.readouterr().out
    assert "broken did not run: out of memory" in told and "other is absent, not installed: other" in told
    assert [line.count("disturbed") for line in told.splitlines() if "busy" in line] == [1]
    page = tmp_path / "page.md"
    page.write_text((ROOT / "docs" / "performance.md").read_text())
    report.fill_page(page, figures)
    once = page.read_text()
    assert "| sd-decode-512 | busy | 2.00 | 4.00 | 2.00 | 1.00 | 2.00 | 1.33 disturbed | 25 % | 1.0e-05 | 120 |" in once
    report.fill_page(page, figures)
    assert page.read_text() == once
    page.write_text("nothing")
    with pytest.raises(EightfoldError, match="no place for"):
        report.fill_page(page, figures)
    picture = report.draw_plot(figures)
    assert len(picture.getcolors(100_000)) > 4 and report.COLOURS["ours"] in {colour for _, colour in picture.getcolors(100_000)}


def test_the_meter_sees_memory_time_and_other_processes():
    meter = take("codec_meter")
    idle = meter.read_resident()
    if idle is None:
        pytest.skip("no /proc")

    def work():
        block = np.ones(40_000_000, np.uint8)
        total = sum(range(300_000))
        time.sleep(0.05)
        return block.nbytes + total

    _, figures = meter.measure(work, idle=idle)
    assert 35e6 < figures["rise"] < 80e6 and figures["wall"] > figures["cpu"] > 0 and figures["foreign"] >= 0
    _, after = meter.measure(lambda: None, idle=meter.read_resident())
    assert after["rise"] < 10e6, "the mark of one run is not that of the next"


def test_a_stopwatch_counts_time_once_however_many_are_inside():
    watch = take("codec_meter").Stopwatch()
    with watch.count():
        time.sleep(0.01)
        with watch.count():
            inner = time.perf_counter() - watch.since
    assert watch.calls == 2 and inner <= watch.wall < 2 * inner + 1


def test_weights_do_not_depend_on_their_order():
    peers = take("codec_peers")
    one = peers.draw_tensor("decoder.conv_in.weight", (8, 4, 3, 3))
    assert (one == peers.draw_tensor("decoder.conv_in.weight", (8, 4, 3, 3))).all() and 0.1 < one.std() < 0.25
    assert peers.draw_tensor("norm.gamma", (64, 1, 1, 1)).mean() == pytest.approx(1, abs=0.2)


def test_a_worker_that_dies_says_why(tmp_path):
    duel = take("codec_duel")
    script = tmp_path / "worker.py"
    script.write_text("print('{}', flush=True); input(); raise MemoryError('no more')")
    worker = duel.Worker({"threads": 1}, python=sys.executable, wait=None, folder=tmp_path, script=script)
    with pytest.raises(duel.Lost, match="MemoryError: no more"):
        worker.ask("run")
    worker.end()


def test_toy_networks_are_known():
    cases = take("codec_cases")
    for case in (*cases.CASES, *cases.QUICK):
        space = cases.to_space(case.space, toy=case.toy)
        assert case.side % space.latent_downscale == 0
        assert case.toy or case.space in [space.name for space in cases.SPACES]
    assert len({case.name for case in cases.CASES}) == len(cases.CASES)


class Planned:
    """A codec with the plan that codecs will have."""

    def __init__(self, codec, peak):
        self.codec, self.space, self.peak = codec, codec.space, peak

    def plan(self, way, width, height):
        return SimpleNamespace(peak_bytes=self.peak, rise_bytes=1, seconds=0.5)

    def encode(self, image):
        return self.codec.encode(image)

    def decode_raw(self, raw):
        return self.codec.decode_raw(raw)


@pytest.mark.parametrize("way", ["encode", "decode"])
def test_memory_is_measured_beside_its_plan(way):
    memory = take("memory")
    asked = {}

    def load(weights, **options):
        asked.update(options)
        return Planned(load_autoencoder("pocket"), 10**9)

    job = {"way": way, "width": 48, "height": 32, "memory": "2GB", "weights": "", "space": "pocket"}
    row = {"memory": "2GB", **memory.measure_plan(job, load)}
    assert asked == {"space": "pocket", "memory": "2GB"}
    assert row["predicted"] == {"peak": 10**9, "rise": 1, "seconds": 0.5} and row["wall"] > 0
    assert memory.judge({**row, "peak": 9e8}) == ""
    assert memory.judge({**row, "peak": 2.5e9}) == "above its plan, above its budget"
    assert memory.judge({**row, "memory": None, "peak": 2.5e9}) == "above its plan"


def test_a_refused_budget_is_told():
    memory = take("memory")

    def load(weights, **options):
        raise EightfoldError("too little", hint="more")

    job = {"way": "decode", "width": 48, "height": 32, "memory": "1MB", "weights": "", "space": "pocket"}
    assert "too little" in memory.judge({"memory": "1MB", **memory.measure_plan(job, load)})


@pytest.mark.parametrize("contestants", ["ours", pytest.param("ours,diffusers", marks=pytest.mark.long)])
def test_codec_runs(tmp_path, contestants):
    """The whole of it at its smallest: the pocket autoencoder, alone or against that of diffusers."""
    given = ["--quick", "--cases", "pocket-encode-128", "--contestants", contestants, "--threads", "1"]
    out = ["--json", str(tmp_path / "a.json"), "--plot", str(tmp_path / "a.png")]
    done = subprocess.run([sys.executable, FOLDER / "codec.py", *given, *out], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((tmp_path / "a.json").read_text())
    found = figures["cases"]["pocket-encode-128"]
    assert {*found["contestants"]} == {*contestants.split(",")} and found["medians"]["ours"]["cpu"] > 0
    assert all(one["torch threads"] == 1 and len(one["runs"]) == 1 for one in found["contestants"].values())
    if "diffusers" in contestants:
        assert found["contestants"]["ours"]["largest error"] < 1e-4 and found["ratios"]["diffusers"]["cpu"] > 0
    assert (tmp_path / "a.png").stat().st_size > 1000
