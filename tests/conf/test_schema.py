"""The schema is closed: a wrong key, page or value is refused with one line that helps."""

from __future__ import annotations

import subprocess
import sys

import pytest

import run
from experiments.config import ConfigError

BAD = [  # overrides, what the message must name
    (["experiment=vit_b16_imagenett"], ["no such page", "vit_b16_imagenet"]),
    (["experiment=qqqq"], ["experiment=qqqq: no such page; see --help"]),
    (["experiment=vit_b16_imagenet", "optimizer=lionn"], ["did you mean lion?"]),
    (["optimizer.learning_rate=1e-3"], ["optimizer.learning_rate", "no such key"]),
    (["optimizer.wight_decay=1"], ["did you mean optimizer.weight_decay?"]),
    (["optimizer.eps=1e-8"], ["optimizer.eps", "no such key"]),  # Lion has none
    (["train.epoch=3"], ["did you mean train.epochs?"]),
    (["model.drop_rat=0.1", "experiment=mixer_b16_imagenet"], ["did you mean model.drop_path"]),
    (["data.rot=/x", "experiment=vit_b16_imagenet"], ["did you mean data.root?"]),
    (["train.batch_size=many"], ["train.batch_size", "many"]),
    (["optimizer.lr=-1"], ["optimizer.lr", "0 or more"]),
    (["optimizer.betas=[0.9,1.0]"], ["optimizer.betas", "below 1"]),
    (["schedule.name=cosin"], ["schedule.name=cosin", "cosine"]),
    (["train.steps=10"], ["train.epochs", "train.steps", "exactly one"]),
    (["train.micro_batch_size=48"], ["train.micro_batch_size=48", "set train.micro_batch_size=32"]),
    (
        [
            "experiment=vit_b16_imagenet_aug",
            "optimizer=adamw",
            "recipe=vit_b16_imagenet_aug/adamw_erly",
        ],
        ["did you mean", "adamw_early"],
    ),
]


@pytest.mark.parametrize(("overrides", "needles"), BAD, ids=lambda v: v[0])
def test_bad_command_line_is_refused_with_a_remedy(
    overrides: list[str], needles: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        run.compose(overrides)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 500
    assert [needle for needle in needles if needle not in message] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["optimizer.wight_decay=1"],
        ["-m", "seed=0,1", "optimizer.betas=[2,2]"],
    ],
    ids=lambda a: a[-1],
)
def test_command_line_ends_with_one_line_and_code_2(arguments: list[str]) -> None:
    command = [sys.executable, str(run.CONF.parent / "run.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert len(set(done.stderr.splitlines())) == 1  # a multirun says it once for each run
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr + done.stdout
