"""The model of tests/bench/scale.py: it gives back what it was made from, and its two halves agree."""

import sys

import pytest

from conftest import ROOT

sys.path.insert(0, str(ROOT / "tests/bench"))
import scale  # noqa: E402
import simulation  # noqa: E402

FIGURES = scale.Figures()
TEN = 10 * FIGURES.rate_256


@pytest.mark.parametrize("clients, within", [(1, 0.01), (64, 0.12), (256, 0.12)])
def test_one_host_is_as_it_was_measured(clients, within):
    seen = simulation.bench(FIGURES, clients, seed=1)
    assert seen["rate"] == pytest.approx(getattr(FIGURES, f"rate_{clients}"), rel=within)
    if clients == 256:
        assert seen["session"] == pytest.approx(FIGURES.session, rel=within)


def test_the_cost_of_a_batch_goes_through_what_was_measured():
    for size, rate in (1, FIGURES.pgbench_1), (32, FIGURES.import_32), (256, FIGURES.import_256):
        assert FIGURES.cpu(size) + FIGURES.fsync == pytest.approx(size * 1e6 / rate)


@pytest.mark.parametrize("sessions", [20, 80])
def test_batches_grow_by_themselves_when_the_cores_are_full(sessions):
    paper = scale.paper_node(FIGURES, TEN, sessions, cores=16)
    seen = simulation.node(FIGURES, TEN, sessions, cores=16, seed=1)
    assert seen["rate"] == pytest.approx(TEN, rel=0.03) and paper["rate"] == TEN
    assert seen["size"] == pytest.approx(paper["size"], rel=0.1)


def test_more_sessions_make_smaller_batches_while_there_are_cores():
    few, some, many = (simulation.node(FIGURES, TEN, sessions, 64, seed=1, warm_up=0.5) for sessions in (10, 20, 80))
    assert few["size"] > 2 * some["size"] > 4 * many["size"]


def test_too_few_sessions_do_what_they_can():
    paper = scale.paper_node(FIGURES, TEN, sessions=5, cores=16)
    seen = simulation.node(FIGURES, TEN, sessions=5, cores=16, seed=1)
    assert paper["rate"] < TEN and seen["rate"] == pytest.approx(paper["rate"], rel=0.05)
    assert paper["size"] == pytest.approx(512) and seen["size"] == 512


def test_the_same_seed_gives_the_same():
    one, again, other = (simulation.node(FIGURES, TEN, 20, 16, seed, seconds=0.1, warm_up=0.1) for seed in (1, 1, 2))
    assert one == again != other


def test_the_results_of_a_benchmark_replace_the_figures(monkeypatch, tmp_path):
    run = {"contender": "ticketd", "clients": 256, "rate": 20_000.0, "cpu": {"nginx": 0.2}}
    results = '{"machine": {"processors": %d, "fdatasync of 8 kB": "90 us"}, "runs": [%s]}'
    monkeypatch.setenv("BENCH_DIR", str(tmp_path))
    for processors, rate, fsync in (2, 20_000, 90), (4, FIGURES.rate_256, FIGURES.fsync):
        (tmp_path / "results.json").write_text(results % (processors, str(run).replace("'", '"')))
        found = scale.Figures(*scale.measured())
        assert (found.rate_256, found.fsync, found.rate_1) == (rate, fsync, FIGURES.rate_1)
        assert found.nginx == (20 if processors == 2 else FIGURES.nginx)
