"""Numbers that are typed in the texts, recomputed with pandas and scipy alone."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from plain_numbers import (
    ROOT,
    SETTING,
    STUDIES,
    TIE,
    ends,
    fresh_arms,
    held_out,
    interval,
    number,
    runs_of,
    said,
)
from scipy import signal, stats

from experiments.analysis import adamw_betas, best_ratios, noise_gains, step_sizes
from experiments.analysis.sources import study
from experiments.analysis.statistics.uncertainty import mean_interval


def test_without_the_seed_that_placed_the_grid_only_the_settings_found_are_told_apart() -> None:
    text = said("RESULTS.md")
    arms = fresh_arms("lm_proxy/fresh", without=100)
    found, wide = interval(*arms), interval(*arms, wide=True)
    assert found[1] > 0 > wide[1]
    of_optimizers = f"[{number(wide[1], 4)}, {number(wide[2], 3)}]"
    assert f"+{found[0]:.3f} {ends(found, 3)} (causal; of the optimizers {of_optimizers}" in text
    arms = fresh_arms("t5_proxy/fresh", without=100)
    found, wide = interval(*arms), interval(*arms, wide=True)
    assert f"+{found[0]:.3f} {ends(found, 3)} (T5; {ends(wide, 3)};" in text
    assert interval(*fresh_arms("lm_proxy/fresh"), wide=True)[1] > 0, "with it both are"


def test_the_lengths_of_the_causal_model_are_no_second_evidence() -> None:
    """At 1,500 steps the picks are those of the study above, and nine seeds are the same runs."""
    above, lengths = runs_of("lm_proxy/fresh"), runs_of("lm_proxy/horizon_fresh")
    both = above.merge(lengths[lengths.steps == 1500], on=["optimizer", "seed", *SETTING])
    assert len(both) == 2 * 9 and (both.test_x == both.test_y).all()
    assert "Nine of their ten seeds are those above" in said("RESULTS.md")


@pytest.mark.parametrize("rival", ["sgd", "addsign", "lion_single_beta_99"])
def test_with_the_luck_of_tuning_losses_tell_optimizers_apart_and_accuracies_do_not(
    rival: str,
) -> None:
    runs = runs_of("vit_proxy/optimizers")
    for column, is_shown in (("test", False), ("test_loss", True)):
        found = interval(held_out(runs, "lion", column), held_out(runs, rival, column), wide=True)
        assert (found[1] > 0 or found[2] < 0) == is_shown, (column, found)
    assert "accuracy shows neither, the three losses stay" in said("RESULTS.md")


def test_of_batch_256_too() -> None:
    runs = runs_of("vit_proxy/batch_size")
    mine = runs[runs.batch_size == 256]
    found = interval(held_out(mine, "lion", "test"), held_out(mine, "adamw", "test"), wide=True)
    assert found[1] < 0 < found[2]
    assert f"with the luck of tuning counted in ({ends(found, 2)})" in said("RESULTS.md")


def test_fashion_stays_with_the_luck_of_tuning() -> None:
    runs = pd.read_csv(ROOT / "results" / "proxies" / "fashion.csv")
    arms = (held_out(runs, name, "test") for name in ("lion", "adamw"))
    assert interval(*arms, wide=True)[1] > 0


def test_ties_of_picks_that_were_trained_with_fresh_seeds_are_all_told() -> None:
    ties = set()
    for path in sorted(STUDIES.glob("*/*_fresh")) + sorted(STUDIES.glob("*/fresh")):
        name = path.name.removesuffix("fresh").rstrip("_") or "tuning"
        runs = runs_of(f"{path.parent.name}/{name}")
        if runs.unit.iloc[0] != "%":  # of a loss no two values are equal
            continue
        known = ("label_noise", "init_optimizer")
        apart = ["optimizer", "batch_size", *(key for key in known if key in runs)]
        if name == "betas":
            apart += ["beta1", "beta2"]
        for arm, mine in runs.groupby(apart, dropna=False):
            means = mine.groupby(SETTING, dropna=False).val.mean()
            if (means > means.max() - TIE).sum() > 1:
                ties.add((path.parent.name, name, *arm[:3]))
    assert ties == {
        ("cnn_proxy", "regimes", "adamw", 16, 0.0),
        ("cnn_proxy", "regimes", "adamw", 64, 0.0),
        ("verses_proxy", "regimes", "adamw", 1, 0.0),
        ("lit_proxy", "batch_size", "lion", 32),
        ("vit_proxy", "discovered", "lion", 64),
    }
    text = said("RESULTS.md")
    assert "AdamW's for the CNN (true labels, batch 16 and 64) and for rare words" in text
    assert "Lion's on `lit_proxy` at 32 pairs and on `vit_proxy` beside the discovered" in text


def test_diverged_runs_are_all_told() -> None:
    lost = []
    for path in sorted(STUDIES.glob("*/*/runs.csv")):
        runs = pd.read_csv(path, usecols=["optimizer", "state"])
        gone = runs[runs.state != "finished"]
        lost += [(path.parts[-3], path.parts[-2], name) for name in gone.optimizer]
    count = pd.Series(lost).value_counts().to_dict()
    beside = {
        name: sum(n for key, n in count.items() if key[1:] == ("discovered", name))
        for name in ("lion", "adamw")
    }
    assert not any(study.endswith("fresh") for _, study, _ in count)
    tiny = [count["mlp_proxy", "tiny", name] for name in ("lion", "adamw")]
    lamb = count["lm_proxy", "since_2023", "lamb"]
    third = count["lm_proxy", "adafactor", "lion"]
    assert sum(count.values()) == sum(tiny) + lamb + third + sum(beside.values())
    assert (
        f"{len(lost)} of these runs diverged, all of them while tuning, where learning rate or "
        f"weight decay is large: {lamb} of LAMB on `lm_proxy`; {tiny[0]} of Lion and {tiny[1]} of "
        f"AdamW with 200 examples on `mlp_proxy`; beside Adafactor {third} of Lion; and beside the "
        "discovered program "
        f"{beside['lion']} of Lion and {beside['adamw']} of AdamW."
    ) in said("results/studies/README.md")


def test_betas_of_the_optimizers_since_2023() -> None:
    runs = runs_of("vit_signals_proxy/since_2023")
    pairs = runs.groupby("optimizer")[["beta1", "beta2"]].first()
    others = pairs[~((pairs.beta1 == 0.9) & (pairs.beta2 == 0.99))]
    assert others.T.to_dict() == {
        "adopt": {"beta1": 0.9, "beta2": 0.9999},
        "muon": {"beta1": 0.9, "beta2": 0.95},
    }
    text = said("RESULTS.md")
    assert "but ADOPT its authors' (0.9, 0.9999)" in text
    assert "trains what is no matrix by AdamW with (0.9, 0.95)" in text


def test_the_funnel_had_the_finalists_of_five_searches() -> None:
    folder = STUDIES / "program_search"
    funnel = pd.read_csv(folder / "funnel.csv")
    finalists = funnel[["search", "number"]].drop_duplicates()
    through = funnel[(funnel.gate == "T2") & funnel.promoted].number.unique()
    assert (len(finalists), finalists.search.nunique(), len(through)) == (25, 5, 1)
    assert "Of the 25 finalists of five of them one came through" in said("README.md")


def test_no_search_beats_the_tuned_constants_on_fresh_data() -> None:
    finals = pd.read_csv(STUDIES / "program_search" / "finals.csv")
    best = finals[finals.kind == "finalist"].sort_values("on_search_data").groupby("search").last()
    of_arm = best.groupby("arm")
    evolved = of_arm["mean"].max()[["laptop", "paper"]]
    assert evolved.max() < of_arm["mean"].min()["constants"]
    counted = best.groupby("arm").on_search_data.mean()
    assert counted.laptop > counted.constants, "each in rounds of its own"
    assert "none beats AdamW's own constants, tuned, on fresh data" in said("README.md")


def test_from_adamw_sign_momentum_is_met_and_two_averages_in_name_only() -> None:
    folder = STUDIES / "program_search"
    met = pd.read_csv(folder / "rediscovery.csv").set_index("arm")
    met = met.loc[["laptop", "paper", "laptop_mlp", "from_adamw"]]
    assert (met.sign_momentum_trained.count(), len(met)) == (19, 20)
    (two,) = met[met.two_averages_trained.notna()].itertuples()
    betas = [float(Fraction(two.two_averages_beta1)), float(Fraction(two.two_averages_beta2))]
    worth = pd.read_csv(folder / "second_average.csv")
    worth.index = worth.program.str.extract(r"(\w+)(?:\.txt)?$")[0]
    both, behind = worth.loc["two_averages"], -worth["mean"]
    text, page = said("RESULTS.md"), said("README.md")
    assert (
        "met in 19 of 20 searches" in text and "twenty start from AdamW. Nineteen of them" in page
    )
    assert f"they remember {betas[0]:.4f} and {betas[1]:.4f}" in text
    assert f"even {two.minus_lion:.2f} nats ahead of it" in text
    apart = f"{both['mean']:.3f} ± {both.standard_error:.3f} nats over {both.n} rounds"
    assert f"the difference is {apart}" in text
    assert f"the same with 0.9 is {behind.one_average_09:.2f} behind it" in text
    assert f"like it without weight decay, {behind.lion_undecayed:.2f} (those" in text
    assert f"which decay, {behind.sign_momentum:.2f} and {behind.lion:.2f}:" in text


def test_how_often_made_up_programs_come_through_the_funnel() -> None:
    rows = pd.read_csv(ROOT / "results/bench/search.csv").set_index("what")
    share = 100 * rows.value / rows.children
    null, ahead = "as good as the reference, through", "10 standard errors ahead on one, through"
    gate, both = share[f"{null} a gate"], share[f"{null} both"]
    some = 100 * (1 - (1 - both / 100) ** 25)
    text = said("RESULTS.md")
    assert (
        f"{gate:.0f} % pass a gate and {both:.1f} % both (one or more of 25 in {some:.0f} %)"
        in text
    )
    assert f"{100 - share[f'{ahead} both']:.0f} % do not come through" in text


def test_on_the_same_rounds_of_search_data_none_does_either() -> None:
    picks = pd.read_csv(STUDIES / "program_search" / "picks.csv")
    by_round = picks.pivot_table(index="round", columns="arm", values="fitness")
    behind = int((by_round.laptop < by_round.constants).sum())
    arms = picks.groupby(["arm", "search"]).fitness.mean()
    gap = stats.ttest_ind(arms.constants, arms.laptop, equal_var=False)
    low, high = gap.confidence_interval(0.95)
    apart = f"{arms.constants.mean() - arms.laptop.mean():.3f} nats [{low:.3f}, {high:.3f}]"
    text = said("RESULTS.md")
    assert f"laptop's by {apart}, in {behind} of the {len(by_round)} rounds" in text
    assert (by_round.idxmax() == 19).all(), "the last of laptop's 20,000 programs"
    assert "its last round is one in which all of these programs gain most" in text
    spread = picks.groupby("search").fitness.std()
    of_good = picks[picks.arm != "random"].groupby("round").fitness.std()
    assert of_good.mean() < 0.03 < 0.045 < spread[spread.index.str[:6] != "random"].mean() < 0.055


def wrong_calls(name: str, kind: str, alone: bool) -> pd.DataFrame:
    """% of pairs of equal optimizers that are called different; a column per number of seeds."""
    table = pd.read_csv(ROOT / "results" / "compare_calibration" / f"{name}.csv")
    return table[table.num_weight_decays.eq(1) == alone].filter(regex=f"{kind}_.*_percent")


def test_how_often_equal_optimizers_come_out_as_different() -> None:
    lines = (ROOT / "RESULTS.md").read_text().splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("| six grids of 16 to 49"))
    cases = [(alone, name) for alone in (False, True) for name in ("grids", "grids_2.5_5")]
    for line, (alone, name) in zip(lines[start:], cases, strict=False):
        ours, settings = (wrong_calls(name, k, alone) for k in ("of_optimizers", "at_settings"))
        wanted = f"| {ours.min().min():.1f} to {ours.max().max():.1f} % "
        wanted += f"| {settings.min().min():.0f} to {settings.max().max():.0f} % |"
        assert line.endswith(wanted), (name, alone)
    table = pd.read_csv(ROOT / "results/compare_calibration/grids.csv")
    row = table.query("world == 'made up' and num_lrs == 5 and num_weight_decays == 5").iloc[0]
    assert row.num_seeds == 1
    each = " / ".join(f"{row[f'at_settings_{n}_percent']:.0f}" for n in (5, 9, 17))
    assert f"different in {each} % of comparisons at 5 / 9 / 17 fresh seeds" in said(
        "experiments/compare/README.md"
    )


def test_which_statements_of_the_found_program_are_missed() -> None:
    rows = pd.read_csv(STUDIES / "program_search/ablation.csv")
    mine = rows[rows.program == "found"]
    missed = mine["mean"] + stats.t.ppf(0.975, mine.n - 1) * mine.standard_error < 0
    by_statement = mine[missed].groupby("statement").family.apply(list)
    assert "g2 = arctanh(g2)" not in by_statement
    assert by_statement["update = arcsinh(update)"] == ["mlp"]
    (row,) = mine.query("family == 'mlp' and statement == 'update = arcsinh(update)'").itertuples()
    text = said("RESULTS.md")
    assert f"the perceptron loses {-row.mean:.3f} ± {row.standard_error:.3f} nats" in text
    assert f"one of {len(mine)} such numbers" in text


def test_what_leaner_state_costs() -> None:
    rows = (ROOT / "results/lean_state/README.md").read_text().splitlines()
    found = {
        tuple(c.strip() for c in row.split("|")[1:-1]) for row in rows if row.startswith("| `")
    }
    ranges = {(page.strip("`"), stored): span for page, stored, _, _, span, _ in found}
    runs = pd.read_csv(ROOT / "results/lean_state/runs.csv")
    assert "and its weight decay, not tuned" in said("results/lean_state/README.md")
    for page in {*runs.experiment}:
        assert "the weight decay was not tuned" in said(f"conf/recipe/{page}/lion.yaml")
        picking = pd.read_csv(ROOT / f"results/proxies/{page}.csv")
        assert {*picking.seed} < {*runs.seed}, "which picked the rate, and are among these"
    readme = (ROOT / "lion/README.md").read_text()
    for variant in {*runs.variant} - {"float32", "activations bfloat16"}:
        spans = []
        for page in ("vit_proxy", "vit_mnist1d_proxy"):
            wide = runs[runs.experiment == page].pivot(
                index="seed", columns="variant", values="test"
            )
            low, high = interval(wide[variant].to_numpy(), wide["float32"].to_numpy())[1:]
            spans.append(f"{low:+.2f} to {high:+.2f}")
            assert ranges[page, variant] == spans[-1]
            assert low < -0.5, "lion/README.md: in no row is a cost of half a point excluded"
            assert (high < 0) == (variant == "weights bfloat16" and page == "vit_mnist1d_proxy")
        stored = variant.replace("compensated", "`kahan_sum`")
        row = next(line for line in readme.splitlines() if line.startswith(f"| {stored} |"))
        assert row.replace("**", "").endswith(f"| {spans[0]} | {spans[1]} |")


def test_which_exact_test_five_pairs_have() -> None:
    """Theirs by signs cannot fall below 5 %, so the values are divided over two groups."""
    text = said("RESULTS.md")
    for page, groups, signs in (("vit_mnist1d_proxy", 0.095, 0.125), ("fashion", 0.008, 0.0625)):
        runs = pd.read_csv(ROOT / f"results/proxies/{page}.csv")
        arms = [held_out(runs, name, "test") for name in ("lion", "adamw")]
        of_means = {"statistic": lambda x, y, axis: x.mean(axis) - y.mean(axis)}
        divided = stats.permutation_test(arms, **of_means)
        turned = stats.permutation_test(arms, permutation_type="samples", **of_means)
        assert round(divided.pvalue, 3) == groups and turned.pvalue == signs
        assert f"`{page}` p {groups}" in text or f"`{page}` {groups}" in text
    assert "would show nothing here (0.125; 0.06)" in text


def test_that_less_weight_decay_is_better_in_longer_runs_is_not_shown() -> None:
    runs = runs_of("lm_proxy/horizon").query("steps == 4000 and optimizer == 'lion'")
    best, kept = runs.val.min(), runs.val[runs.weight_decay == 3].min()
    again = runs_of("lm_proxy/horizon_fresh").query("steps == 4000 and optimizer == 'lion'")
    assert (kept - best) / math.sqrt(2) < 1.96 * again.val.std()
    said_of_it = f"Lion's best at 4,000 is {kept:.3f} instead of {best:.3f} on validation"
    assert said_of_it in said("RESULTS.md")
    assert f"a standard deviation of {again.val.std():.3f}" in said("RESULTS.md")


def test_by_what_factor_best_learning_rates_differ() -> None:
    """README.md and RESULTS.md, from the fits and their trends."""
    ratios = best_ratios.table()
    one = best_ratios.trends(ratios, "parted")["steps"]
    later = best_ratios.trends(ratios, "steps")["steps"]
    first, second = (f"{x.factor:.2f} [{x.low:.2f}, {x.high:.2f}]" for x in (one, later))
    assert f"grows by a factor of {first} in four families" in said("README.md")
    assert f"in four others ({second})" in said("README.md")
    for found in (one, later):
        assert len(found.of_families) == 4 and found.low > 1, "shown in each four"
    every = best_ratios.all_lengths(ratios)
    for optimizer, typed in {"lion": 0.75, "adamw": 0.9}.items():
        falls = best_ratios.trends(every, "steps", f"lr_{optimizer}")["steps"]
        assert falls.factor == pytest.approx(typed, abs=0.02) and falls.high < 1
    assert "to about 0.75 of itself, AdamW's to 0.9" in said("README.md")
    assert "multiply Lion's by about 0.75 and AdamW's by about 0.9" in said("RESULTS.md")
    assert "0.75 of Lion's learning rate, and from 0.9 of AdamW's" in said("lion/README.md")
    sizes = step_sizes.table().dropna(subset="step_ratio")
    means = np.exp(np.log(sizes.step_ratio).groupby(sizes.steps).mean())
    assert 0.9 < means[620] < 1.1 and 0.5 < means[10_000] < 0.6, "as large; little more than half"
    assert sizes.adamw.median() == pytest.approx(0.25, abs=0.015), "about a quarter of it"
    alone = best_ratios.trends(ratios, "steps", "lr_adamw")["steps"]
    assert alone.high > 1, "of AdamW in the other four families alone a fall is not shown"
    batch = best_ratios.trends(ratios, "parted")["batch_size"]
    assert batch.low < 1 < batch.high, "that the batch moves it is not shown"
    own = ratios[ratios.kind == "tuned"].lr_estimate
    assert (round(own.min()), round(own.max())) == (2, 5) and own.max() > 5.4, "2 to 6 times"
    most = ratios.lr_estimate.max()
    assert "one is 2 to 20 times smaller, by more the longer the run" in said("lion/README.md")
    assert round(most) == 20 and ratios.batch_size[ratios.lr_estimate.idxmax()] == 1
    heatmap = ratios[(ratios.study == "heatmap")].iloc[0]
    told = f"{heatmap.lr_estimate:.1f} [{heatmap.lr_low:.1f}, {heatmap.lr_high:.1f}] times Lion's"
    assert told in said("RESULTS.md")
    product = [heatmap[f"product_{x}"] for x in ("estimate", "low", "high")]
    middle, high, low = (f"{1 / x:.2g}" for x in product)
    assert f"AdamW's / Lion's {middle}0 [{low}, {high}]" in said("RESULTS.md")


def gain_by_hand(beta1: float, beta2: float) -> float:
    """From the weights of past gradients in what Lion takes the sign of, one by one."""
    ages = np.arange(1, 5000)
    weights = np.concatenate([[1 - beta1], beta1 * (1 - beta2) * beta2 ** (ages - 1.0)])
    return float(2 * stats.norm.pdf(0) / np.sqrt((weights**2).sum()))


def test_the_formula_of_the_betas_is_that_of_the_weights() -> None:
    text, row = said("RESULTS.md"), []
    heads = "(0, any) | (0.9, 0.9) | (0.95, 0.95) | (0.9, 0.99) | (0.95, 0.98) | (0.98, 0.98) | "
    assert f"| Lion's betas | {heads}(0.99, 0.99) |" in text
    for pair in (0, 0.5), (0.9, 0.9), (0.95, 0.95), (0.9, 0.99), (0.95, 0.98), (0.98, 0.98):
        row.append(gain_by_hand(*pair))
        assert noise_gains.gain(*pair) == pytest.approx(row[-1], rel=1e-6)
    typed = [f"{x:.2f}" if x < 1 else f"{x:.1f}" for x in row]
    assert f"| G | {' | '.join(typed)} | {gain_by_hand(0.99, 0.99):.0f} |" in text
    own, paper = f"{gain_by_hand(0.9, 0.99):.1f}", f"{gain_by_hand(0.95, 0.98):.1f}"
    assert f"{own} times for (0.9, 0.99) where normal noise rules" in said("README.md")
    guide = said("lion/README.md")
    assert (
        f"{own} times for (0.9, 0.99), {gain_by_hand(0.9, 0.9):.1f} times for (0.9, 0.9)" in guide
    )
    assert f"and {paper} times for (0.95, 0.98), which that test did not try" in guide
    near, far = (noise_gains.walked_by_noise(0.9, 0.99, x) for x in (100, 1000))
    assert f"comes {near:.1f} times as far as AdamW in windows of 100 steps, {far:.1f}" in text
    module = noise_gains.__doc__ or ""
    assert f"(sigma / {gain_by_hand(0.9, 0.99) / gain_by_hand(0, 0.5):.1f} for" in module


def test_which_predictions_of_the_betas_came_true() -> None:
    """And what the text says of each of them; the numbers themselves stand in the tables."""
    text, ratios = said("RESULTS.md"), noise_gains.table()
    long = ratios[ratios.steps == 10_000].sort_values("gain")
    tops = [part.lr_lion.dropna() for _, part in long.groupby("name")]
    assert all(part.is_monotonic_decreasing for part in tops), "1: the order"
    after, slopes = noise_gains.slopes(ratios, 10_000)
    assert 0.5 < after.low < 1 < after.high, "2: the slope"
    before = noise_gains.slopes(ratios, 620)[0]
    assert before.estimate < after.estimate, "3: smaller at 620"
    assert "All three came true, those at 10,000 steps with room, the smaller slope" in text
    assert 0 < noise_gains.growth(ratios, 620, 10_000).low < 0.05, "just leaves 0"
    assert before.low < 0, "that betas move the ratio there at all is not shown"
    others = noise_gains.slopes(ratios[ratios.name != "rewards only"], 620)[0]
    assert others.low > 0 and "without *rewards only*, whose short runs go the other way" in text
    data = noise_gains.by_data(ratios, 10_000)
    wider = (data.high - data.low) / (after.high - after.low)
    assert data.n == 3 and wider == pytest.approx(3, abs=0.5), "three times as wide"
    averages = noise_gains.slopes(ratios[ratios.beta1 > 0], 10_000)[0]
    assert averages.low < 1 < averages.high and averages.estimate < after.estimate
    assert "without it the slope is smaller, though its interval holds 1, too" in text
    readme = said("README.md")
    told = f"slope of the logs {noise_gains.of_slope(after)} over {len(slopes)} families"
    assert told in readme
    assert "At 620 steps they follow it less" in readme
    assert "runs of 10,000 steps follow and runs of 620 less" in said("lion/README.md")


def walked_by_adamw(beta1: float, beta2: float, steps: int = 200_000) -> float:
    """A step of AdamW along a small mean, beside learning rate x mean / noise: simulated."""
    noise, mean, found = np.random.default_rng(0).standard_normal(steps), 0.1, 0.0
    for sign in (1, -1):
        grad = noise + sign * mean
        averages = signal.lfilter([1 - beta1], [1, -beta1], grad)
        squares = signal.lfilter([1 - beta2], [1, -beta2], grad**2)
        found += sign * float((averages / np.sqrt(squares))[20_000:].mean()) / mean / 2
    return found


def test_that_adamws_own_betas_move_its_learning_rate_by_little() -> None:
    text, ratios, moved = said("RESULTS.md"), adamw_betas.table(), adamw_betas.moved()
    pairs = {pair: np.log(part.estimate) for pair, part in ratios.groupby(["beta1", "beta2"])}
    assert len(pairs) == 3 and ratios.name.nunique() == 6 and (ratios.reason == "").all()
    assert "in simulated noise within 3 %" in text
    for pair in pairs:
        assert walked_by_adamw(*pair) == pytest.approx(1, abs=0.03)
    limit, means = math.log(1.25), [mean_interval(list(logs)) for logs in pairs.values()]
    assert all(abs(mean.estimate) < limit for mean in means), "1: by the means"
    assert all(mean.low < 0 < mean.high for mean in means), "none is shown to move"
    beyond = sum(max(-mean.low, mean.high) > limit for mean in means)
    assert beyond == 2 and "the intervals of two of the three reach beyond 1.25" in text
    own = mean_interval(list(np.log(moved.adamw)))
    widest = max(max(-mean.low, mean.high) for mean in [*means, own])
    assert widest < math.log(1.5), "the whole interval of each mean"
    assert len(moved) == 6 and abs(own.estimate) < math.log(1.5), "2: on average"
    assert (adamw_betas.in_logs(moved).abs() < 0.5).all(), "2: in each family"
    assert "**Both came true**, the first by the means" in text
    low, high = (f"{math.exp(x):.2f}" for x in (own.low, own.high))
    falls = [f"{x:.2g}" for x in (1 / moved.lion.max(), 1 / moved.lion.min())]
    told = f"{math.exp(own.estimate):.2f} [{low}, {high}], where Lion's falls {' to '.join(falls)}"
    assert f"from β₁ = 0 to 0.99 by a factor of {told} times" in said("README.md")


def test_what_walks_say_and_what_they_do_not() -> None:
    text, walks, parts = said("RESULTS.md"), noise_gains.walks(), noise_gains.parts()
    own = walks[(walks.beta1 == 0.9) & (walks.beta2 == 0.99)]
    late = own[(own.steps == 10_000) & (own.window == 1000)]["last"]
    assert (len(late), ((late >= 5) & (late <= 9)).sum(), (late > 9).sum()) == (8, 2, 6)
    assert "Five to nine times was what had been written down for the last third" in text
    assert "that failed**, six of eight came further" in text
    script = " ".join((ROOT / "scripts/noise_gains.py").read_text().split())
    assert f"came out as {late.min():.0f} to {late.max():.0f} in the last thirds" in script
    by_length = own[own.window == 100].pivot(index="experiment", columns="steps", values="last")
    assert (by_length[620] < by_length[10_000]).sum() == 8
    assert "held, in windows of 100 steps, in all eight" in text
    beside = noise_gains.adamw_over_noise().groupby("steps").agg(noise_gains.geometric)
    assert 1 < beside[620] / beside[10_000] < 1.2, "hardly further at 620 steps"
    mine = parts[(parts.beta1 == 0.9) & (parts.beta2 == 0.99)]
    smaller = mine[mine.third == 3].smaller / (gain_by_hand(0.9, 0.99) / gain_by_hand(0, 0.5))
    assert smaller.min() > 0.9 and smaller.max() < 1.1, "late as of independent gradients"
    density = mine[mine.third == 3].groupby("steps").density.agg(noise_gains.geometric)
    assert density[10_000] > density[620] > 0.8, "what grows is how often little is left"
    every = noise_gains.both()
    signs = every[(every.steps == 10_000) & (every.beta1 == 0)]
    assert (signs.walked > signs.lr_estimate).all(), "further than the ratio says"
    averages = every[(every.steps == 10_000) & (every.beta1 > 0)]
    off = [(np.log(averages.lr_estimate / averages[x]) ** 2).mean() for x in ("walked", "gain")]
    assert off[0] < off[1] < np.log(1.4) ** 2, "about what was walked, as near as to G"
    assert noise_gains.slopes(every, 10_000, "walked")[0].low > 1, "not 1, but larger"
    averages = every[(every.steps == 10_000) & (every.beta1 > 0)]
    level = noise_gains.geometric((averages.lr_estimate / averages.walked).dropna())
    assert 0.9 < level < 1.1, "about what was walked"


def test_what_was_predicted_of_long_runs_failed() -> None:
    ratios = best_ratios.table()
    long = ratios[(ratios.kind == "long") & (ratios.steps == 160_000)].set_index("experiment")
    before = best_ratios.all_lengths(ratios).query("steps == 10_000").set_index("experiment")
    logs = np.log(long.lr_estimate / before.lr_estimate[long.index]) / 4
    assert len(logs) == 3 and np.exp(logs.max()) > 1.20 and np.exp(logs.mean()) > 1.10
    reach = stats.t.ppf(0.975, 2) * stats.sem(logs)
    assert logs.mean() - reach < 0, "that it grows on is not shown either"
    low, high = (np.exp(logs.mean() + x) for x in (-reach, reach))
    told = f"that failed: {np.exp(logs.mean()):.2f} [{low:.2f}, {high:.2f}]"
    assert told in said("README.md")
    assert "neither came true. That it grows on is not shown" in said("RESULTS.md")
    above = (long.lr_estimate > noise_gains.gain(0.9, 0.99)).sum()
    assert above == 3 and "at 160,000 the ratio is larger in three of three" in said("README.md")


def test_what_is_said_of_the_ratios_besides() -> None:
    """How sure they are, of what, and what the first grid of sparse words gave."""
    text, held = said("RESULTS.md"), pd.read_csv(ROOT / "results/compare_calibration/ratios.csv")
    one = held[held.world != "two tops"]
    jagged = held.world == "committed heatmaps"
    low, high = one.lr_holds_percent.min(), one.lr_holds_percent.max()
    two, decay = held[held.world == "two tops"], "weight_decay_holds_percent"
    smooth = one[one.world != "committed heatmaps"]
    assert f"in {low:.0f} to {high:.1f} % of cases" in text
    assert f"second top in {two.lr_holds_percent.min():.0f} % or more" in text
    assert f"those of weight decays in {smooth[decay].min():.1f} % or more" in text
    assert (
        f"in {held[jagged][decay].min():.0f} %, with second tops in {two[decay].min():.0f} %"
        in text
    )
    ratios = best_ratios.table()
    assert f"runs of {ratios.steps.min()} to {ratios.steps.max():,} steps" in text
    runs = study("batch_and_steps", experiment="verses_proxy")
    assert runs is not None
    cells = ["optimizer", "batch_size", "steps"]
    ends_of = runs.groupby(cells).lr
    runs = runs[(runs.lr > ends_of.transform("min")) & (runs.lr < ends_of.transform("max"))]
    first = pd.DataFrame(best_ratios._rows(runs, ["batch_size", "steps"])).assign(
        kind="parted", experiment="verses_proxy", study="batch_and_steps"
    )
    assert (first.lr_reason == "edge").sum() == 4
    both = pd.concat([first, ratios[ratios.experiment == "mlp_proxy"]])
    slopes = [
        one.of_families["verses_proxy"] for one in best_ratios.trends(both, "parted").values()
    ]
    assert "were {:.2f} over the batch and {:.2f} over the steps".format(*slopes) in text
