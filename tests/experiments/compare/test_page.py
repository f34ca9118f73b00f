"""`job=compare`: what is asked of a page, and its runs in the ledger."""

from dataclasses import replace

import pytest

from experiments.compare import cost, page
from experiments.compare.asking import Answer, Ask
from experiments.compare.kinds import page as defaults
from experiments.compare.ledger import Ledger
from experiments.compare.page import Page
from experiments.compare.time_limit import TimeLimit, tried_again
from experiments.config import UserError
from experiments.overrides import quoted_arguments
from experiments.sweep.manifest import Sweep
from experiments.sweep.worker import Worker

QUICK = ["experiment=vit_proxy", "train.epochs=null", "train.steps=2", "eval.every_epochs=null"]


@pytest.fixture
def one(tmp_path):
    return Page([*QUICK, f"results_dir={tmp_path}/runs"], None, defaults()["settings"])


def test_the_page_says_where_to_start_and_what_decides(one):
    assert one.plan.baseline.label == "AdamW" and one.plan.others[0].label == "Lion"
    assert one.plan.start == (type(one.plan.start))(8e-3, 0.05)  # the recipe
    assert (one.plan.better, one.words.metric, one.words.unit) == ("higher", "test top1", "points")
    assert one.plan.others[0].weight_decay_factor == 5.5


def test_runs_are_cells_in_the_ledger_and_are_not_run_twice(one, tmp_path, monkeypatch):
    asks = [
        Ask("adamw/pilot/0", "adamw", "pilot", 8e-3, 0.05, 0),
        Ask("adamw/pilot/3", "adamw", "pilot", 8e-3, 0.05, 0, copy=1),
        Ask("lion/search/0", "lion", "grow", 2e-3, 0.3, 1000),
    ]
    launched = []

    def launch():
        launched.append(1)
        return Worker(tmp_path / "c/sweep", pause_seconds=0.01).work()

    with Ledger(tmp_path / "c").opened(one.about) as ledger:
        answers = one.run(asks, ledger, launch)
        assert one.run(asks, ledger, launch)[0] == answers[0] and len(launched) == 1
        assert 0 < answers[0].tune < 100 and answers[0].beside > 0 and answers[2].seconds > 0
        assert answers[1].tune != answers[1].tune and Answer().tune != 0  # a run is a folder
        assert ledger.states("lion") == ["finished"]


def test_a_run_that_was_ended_for_its_time_is_tried_again_with_more(one, tmp_path):
    """Its cell has failed for good in the sweep; another ended because of its settings."""
    asks = [Ask(f"lion/search/{n}", "lion", "grow", 2e-3, 0.3, 1000 + n) for n in range(2)]
    limits = []

    def launch():
        sweep = Sweep(tmp_path / "c/sweep")
        limits.append(sweep.manifest.get("limit"))
        for cell in sweep.cells:
            more = {"limit": 5400.0} if cell.seed == 1000 else {}
            for _ in range(sweep.max_tries):
                sweep.leases.claim(cell.run_id, sweep.leases.of(cell.run_id)).release(
                    "failed", "it took longer than --timeout 90min" if more else "no", **more
                )
        return 1

    with Ledger(tmp_path / "c").opened(one.about) as ledger:
        assert not list(tried_again(ledger, one.limit))
        ledger.end(replace(asks[0], seed=1), Answer(1.0, seconds=80.0), "finished")
        one.run(asks, ledger, launch)
        assert not list(tried_again(ledger, one.limit))
        assert ledger.write_table().read_text().count("longer than --timeout 90min") == 1
        (said,) = tried_again(ledger, TimeLimit.parse("2h"))
        assert said.startswith("1 run that was ended") and ledger.answer(asks[0]) is None
        assert ledger.answer(asks[1]) is not None
    seconds, reason = limits[0]["seconds"], limits[0]["reason"]
    assert seconds == 800 and "10 times the slowest before; --timeout sets another" in reason


BAD = {
    "optimizer=sgd": "the comparison sets it",
    "seed=3": "the comparison sets it",
    "optimizer.lr=1": "the comparison sets it",
    "optimizer.path=found.txt": "other settings stand on a page of yours: FOLDER/optimizer/",
    "compare.budgt=3": "no such key; did you mean budget? there are: baseline",
    "compare.budget=ten": "budget: 'ten' is no number",
    "compare.budget=10.5": "is no whole number",
    "compare.margin=.inf": "margin: inf is no number",
    "compare.lr=high": "lr: 'high' is no number",
    "compare.lr=-1": "an lr above 0",
    "compare.optimizers=5": "optimizer=5",
    "compare.name=a/b": "not a path",
    "compare.timeout=soon": "--timeout soon: give seconds, or a time like",
    "--timeout=0": "--timeout 0: give seconds",
    "--budget=5": "at least 10",
    "--optimizers=adamw": "at least two",
    "compare.optimizers=[adamw]": "at least two",
    "compare.budget=5": "at least 10",
    "compare.baseline=nonsense": "nonsense",
    "experiment=nonsense": "nonsense",
    "launcher=nonsense": "nonsense",
    "word": "neither a flag nor key=value",
    "-m": "does not go with",
}


@pytest.mark.parametrize("text", BAD)
def test_a_command_line_that_cannot_work_is_one_line_and_starts_nothing(text, tmp_path):
    given = ["job=compare", *QUICK, f"results_dir={tmp_path}/runs", text]
    with pytest.raises(UserError) as refused:
        page.main(given)
    assert BAD[text] in str(refused.value) and "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_options_may_be_typed_as_those_of_the_script():
    """Remedies name them so: --budget 36."""
    settings = defaults()["settings"]
    flags = [word for key in settings for word in (f"--{key.replace('_', '-')}", "x")]
    typed = quoted_arguments(["job=compare", "experiment=vit_proxy", *flags])
    *_, given = page._parsed(typed)
    assert given == dict.fromkeys(settings, "x")


def test_before_each_launch_it_says_how_far_the_whole_has_come(tmp_path, monkeypatch, capsys):
    def launch(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(page.command, "launch", launch)
    with pytest.raises(KeyboardInterrupt):
        page.main(["job=compare", *QUICK, f"results_dir={tmp_path}/runs"])
    assert capsys.readouterr().out.endswith("\n0 of 3 runs of the pilot\n")


def test_another_job_is_not_ours():
    assert page.main(["experiment=vit_proxy"]) == page.NOT_A_COMPARISON


def test_the_price_is_told_without_a_run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert page.main(["job=compare", "experiment=vit_proxy", "--cost"]) == 0
    assert capsys.readouterr().out.strip() == cost.table().strip()
    with pytest.raises(UserError, match="--budgt does not go with job=compare; did you mean --bud"):
        page.main(["job=compare", "--budgt", "3"])
    assert not list(tmp_path.iterdir())
