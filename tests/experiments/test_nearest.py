"""Who writes a setting as another tool calls it is told its name here."""

import pytest

import run
from experiments.compose import register_schema
from experiments.config import ConfigError, UserError
from experiments.explain import _known_keys, check_flags
from experiments.nearest import MEANT, TOLD, nearest
from experiments.pages import CONF, load_page

PAGES = ("vit_b16_imagenet", "vit_b16_imagenet_aug", "vit_proxy", "lm_small_pg19", "t5_base_glue")


@pytest.fixture(scope="module", autouse=True)
def schema() -> None:
    register_schema()


@pytest.fixture(scope="module")
def keys() -> list[str]:
    return _known_keys(["experiment=vit_b16_imagenet"], None)


def test_every_name_leads_to_a_key_that_pages_have() -> None:
    known = {key for page in PAGES for key in _known_keys([f"experiment={page}"], None)}
    known |= {*_known_keys(["optimizer=adamw"], None)}
    assert {*MEANT.values()} <= known and not {*MEANT} & {*TOLD}


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        *[("learning_rate", "optimizer.lr"), ("train.lr", "optimizer.lr")],
        *[("optimizer.learning-rate", "optimizer.lr"), ("wd", "optimizer.weight_decay")],
        *[("BS", "train.batch_size"), ("num_gpus", "launch.num_processes")],
        *[("ema", "train.ema_decay"), ("clip", "train.grad_clip_norm")],
        *[("data_dir", "data.root"), ("workers", "data.num_workers")],
        *[("output_dir", "results_dir"), ("mixup", "task.mixup_alpha")],
        *[("eval.every", "eval.every_steps or eval.every_epochs")],
        *[("name", "data.name or schedule.name"), ("optimzer.lr", "optimizer.lr")],
        *[("model.name", "model.model_name"), ("task.mixup", "task.mixup_alpha")],
        *[("task.horizontal_flp", "task.horizontal_flip"), ("batchsize", "train.batch_size")],
    ],
)
def test_a_key_of_another_tool_or_a_slip_is_understood(
    keys: list[str], said: str, meant: str
) -> None:
    assert nearest(said, keys).startswith(f"; did you mean {meant}")


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        *[("vit_b16", "vit_b16_jft300m or vit_b16_imagenet or vit_b16_imagenet21k")],
        *[("LM_proxy", "lm_proxy"), ("vit_b16_imagnet", "vit_b16_imagenet")],
    ],
)
def test_the_beginning_of_a_page_names_those_that_begin_so(said: str, meant: str) -> None:
    with pytest.raises(
        UserError, match=f"experiment={said}: no such page; did you mean {meant}\\?"
    ):
        run.compose([f"experiment={said}"])


def test_a_page_of_sweeps_that_is_nearly_right_is_named() -> None:
    for said, meant in (("lr_wd_prox", "lr_wd_proxy"), ("LR_wd", "lr_wd")):
        with pytest.raises(ConfigError, match=f"sweep={said}: no such page; did you mean {meant}"):
            load_page("sweep", said, [], [CONF])
    with pytest.raises(ConfigError, match="launcher=x: no such page; there are: local, none, ray"):
        load_page("launcher", "x", [], [CONF])


def test_nothing_is_made_up(keys: list[str]) -> None:
    assert nearest("dropout", keys) == "; see --cfg job"
    proxy = _known_keys([], None)
    assert nearest("num_workers", proxy) == "; see --cfg job", "no page of images in memory has it"
    assert nearest("img_size", proxy) == "; did you mean model.img_size?"
    assert "goes on where it stopped" in nearest("resume", keys)


def test_what_is_no_page_or_no_number_says_what_to_write() -> None:
    with pytest.raises(UserError, match=r"data=/a/b: no such page; a folder .* data.root=/a/b$"):
        run.compose(["data=/a/b"])
    with pytest.raises(UserError, match=r"must be a mapping, or name a key .* schedule.name or"):
        run.compose(["schedule=cosine"])


def test_a_page_as_a_flag_is_no_flag_of_hydra() -> None:
    with pytest.raises(ConfigError, match="--experiment: no such flag, settings are written key="):
        check_flags(["--experiment", "vit_proxy"])
    check_flags(["--experimental-rerun", "file"])
