"""Learning rates that a script or its command fixes, whatever the comparison tells it."""

import pytest

from experiments.compare import fixed_rates, sources

BEGINS = {"AdamW": 1e-3, "Lion": 1.8e-4}


def said(command, folder):
    files = sources.files_of(command, folder)
    return " ".join(fixed_rates.said_of(command, files, folder, BEGINS))


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("min_lr = 6e-5 # learning_rate / 10", "min_lr is 6e-05 (train.py, line 1)"),
        ("min_lr: float = 6e-5", "min_lr is 6e-05"),
        ("s = CosineAnnealingLR(o, T_max=9, eta_min=5e-5)", "5 % of AdamW's, 28 % of Lion's"),
        ("s = lr_scheduler.CosineAnnealingLR(o, 9, 5e-5)", "eta_min is 5e-05"),
        ("add(o)\np.add_argument(\n  '--warmup-lr', type=float, default=1e-4)", "line 3"),
        ("c = {'min_lr': 1e-4}", "min_lr is 0.0001"),
        ("self.end_learning_rate = 1e-4", "end_learning_rate is 0.0001"),
        (
            "m = Muon(w, lr=0.02)",
            "lr=0.02 (train.py, line 1): what trains with it, if anything",
        ),
        ("g = [dict(params=h, lr=1e-3)]", "lr=0.001"),
        ("g = [{'params': h, 'lr': 1e-3}]", "lr=0.001"),
        ("s = OneCycleLR(o, 0.01)", "max_lr=0.01"),
        ("bias_lr = 0.053", "bias_lr=0.053"),
        ("o = [A(p, lr=i) for i in r]\n" + "B(q, lr=0.1)\n" * 6, "line 5) and 2 more"),
        ("min_lr = 1e-6", ""),  # a hundredth of no lr that is tried
        ("min_lr = 0", ""),
        ("min_lr = learning_rate / 10", ""),
        ("lr = 1e-3", ""),  # what {lr} sets
        ("p.set_defaults(lr=1e-3); c = dict(lr=1e-3); d = {'lr': 1e-3}", ""),
        ("p.add_argument('--lr', default=1e-3)", ""),
        ("class Muon:\n  def __init__(self, w, lr=0.02): pass", ""),
        ("o = AdamW(p, lr=args.lr, weight_decay=0.1)", ""),
        ("# min_lr = 1e-4", ""),
        ("lr_decay_iters = 0.5; min_lr_ratio = 0.1", ""),
        ("min_lr = ", ""),  # not of this Python
    ],
)
def test_a_rate_in_figures_is_said(script, found, tmp_path):
    (tmp_path / "train.py").write_text(script)
    text = said("python train.py --lr {lr}", tmp_path)
    assert found in text and bool(found) == bool(text)


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("python train.py --min-lr 1e-4 --lr {lr}", "min_lr is 0.0001 (the command)"),
        ("python train.py s.min_lr=1e-4 o.lr={lr}", "min_lr is 0.0001 (the command)"),
        ("python train.py --kw '{\"min_lr\": 1e-4}' --lr {lr}", "min_lr is 0.0001 (the command)"),
        ("python train.py --min_lr=0 --lr {lr}", ""),  # instead of what the script says
        ("python train.py --min_lr={lr} --lr {lr}", ""),
        ("python train.py a.yaml --lr {lr}", "min_lr is 0.0002 (a.yaml, line 2)"),
        ("python train.py b.py --lr {lr}", ""),  # the last one said
    ],
)
def test_the_command_and_later_files_override(command, found, tmp_path):
    (tmp_path / "train.py").write_text("min_lr = 6e-5")
    (tmp_path / "a.yaml").write_text("lr: 0.1\nmin_lr: 2e-4 # of 1e-3\n")
    (tmp_path / "b.py").write_text("min_lr = 0.0")
    text = said(command, tmp_path)
    assert found in text and bool(found) == bool(text)
