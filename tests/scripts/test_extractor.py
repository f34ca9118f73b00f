"""scripts/extractor.py: the weights of a run under the names of its model."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from card_lab import SCRIPTS
from safetensors.torch import load_file

from experiments import checkpoint
from experiments.models.from_transformers import from_config

MAIN = runpy.run_path(str(SCRIPTS / "extractor.py"))["main"]
GUIDE = SCRIPTS.parent / "experiments" / "README.md"


def _saved(folder: Path, **content: Any) -> Path:
    """A runs folder with one run, `a`."""
    checkpoint.save(folder / "runs/a/checkpoints", 1, {"step": 1, **content}, keep=1)
    return folder / "runs"


def _exported(runs: Path, *options: str) -> dict[str, torch.Tensor]:
    out = runs / "out.safetensors"
    assert MAIN(["a", str(out), "--results", str(runs), *options]) == 0
    return load_file(out)


def test_tied_weights_are_written_under_each_of_their_names(tmp_path: Path) -> None:
    tied = torch.arange(6.0).view(3, 2).T  # not contiguous, and shared: safetensors refuses both
    model = {"embed": tied, "head": tied, "bias": torch.ones(2)}
    read = _exported(_saved(tmp_path, model=model))
    assert read.keys() == model.keys()
    assert all(torch.equal(read[name], model[name]) for name in model)


def test_colleagues_may_read_what_is_written(tmp_path: Path) -> None:
    runs = _saved(tmp_path, model={"w": torch.ones(2)})
    _exported(runs)
    (runs / "other").touch()
    assert (runs / "out.safetensors").stat().st_mode == (runs / "other").stat().st_mode


def test_a_place_that_cannot_be_written_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = _saved(tmp_path, model={"w": torch.ones(2)})
    assert MAIN(["a", f"{tmp_path}/{'x' * 250}.safetensors", "--results", str(runs)]) == 2
    assert "cannot be written" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert MAIN(["a", f"{tmp_path}/file/out.safetensors", "--results", str(runs)]) == 2
    assert "name another file" in capsys.readouterr().err


def test_averaged_weights_are_written_under_the_names_of_the_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    average = {"n_averaged": torch.tensor(3), "module.w": torch.full((2,), 5.0)}
    runs = _saved(tmp_path, model={"w": torch.ones(2)}, average=average)
    assert _exported(runs)["w"].tolist() == [1, 1]
    assert "a has averaged weights, too: --weights ema takes those" in capsys.readouterr().err
    read = _exported(runs, "--weights", "ema")
    assert {name: tensor.tolist() for name, tensor in read.items()} == {"w": [5, 5]}
    assert capsys.readouterr().err == ""


def test_weights_that_an_optimizer_shows_are_taken_not_those_it_trains(tmp_path: Path) -> None:
    shown, trained = {"w": torch.ones(2)}, {"w": torch.zeros(2)}  # schedule-free: x, and y
    read = _exported(_saved(tmp_path, model=trained, shown=shown, average=None))
    assert read["w"].tolist() == [1, 1]


def test_a_run_that_has_not_ended_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = _saved(tmp_path, model={"w": torch.ones(2)})
    (runs / "a/status.json").write_text(json.dumps({"state": "stopped", "step": 1}))
    _exported(runs)
    assert "a is stopped: these are the weights of step 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a", "w.pt"], "w.pt must end in .safetensors"),
        (["a", "w.safetensors", "--weights", "ema"], "no ema weights"),
        (["a", "w.safetensors", "--without", "heads.*"], "heads.*: no weight is named so, but w"),
        (["a", "w.safetensors", "--without", "*"], "nothing is left to write"),
        (["b", "w.safetensors"], "no checkpoint; train first"),
    ],
)
def test_what_cannot_be_exported_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    runs = _saved(tmp_path, model={"w": torch.ones(2)}, average=None)
    run, name, *options = arguments
    assert MAIN([run, str(tmp_path / name), *options, "--results", str(runs)]) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1
    assert not (tmp_path / name).exists()


def test_the_guide_s_script_has_the_weights_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import timm

    kept = {"img_size": 8, "patch_size": (4, 2), "in_chans": 1, "num_classes": 10}
    kept |= {"embed_dim": 48, "depth": 2, "num_heads": 2, "mlp_ratio": 2.0}
    trained = timm.models.VisionTransformer(**kept, class_token=False, global_pool="avg")
    runs = _saved(tmp_path, model=trained.state_dict())
    assert MAIN(["a", str(tmp_path / "vit.safetensors"), "--results", str(runs)]) == 0
    scripts = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    script = next(text for text in scripts if "vit.safetensors" in text)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(script, names)
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(names["model"].eval()(images), trained.eval()(images))


GPT2 = {"model_name": "GPT2LMHeadModel", "vocab_size": 7, "n_positions": 8, "n_embd": 4}
GPT2 |= {"n_layer": 1, "n_head": 2}


T5 = {"model_name": "T5ForConditionalGeneration", "vocab_size": 9, "d_model": 4, "d_kv": 2}
T5 |= {"d_ff": 4, "num_layers": 1, "num_heads": 2}


def _say_model(runs: Path, model: dict[str, Any] = GPT2, **more: Any) -> None:
    section = {"_target_": "experiments.models.from_transformers.from_config", **model, **more}
    (runs / "a/config.yaml").write_text(yaml.safe_dump({"model": section, "data": {}}))


def test_transformers_reads_the_folder_as_the_same_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = from_config(**GPT2, activation_checkpointing=True).eval()
    runs, out = _saved(tmp_path, model=model.state_dict()), tmp_path / "out"
    _say_model(runs, activation_checkpointing=True)
    assert MAIN(["a", str(out), "--results", str(runs), "--transformers"]) == 0
    read = transformers.AutoModelForCausalLM.from_pretrained(out)
    assert read.config.use_cache
    tokens = torch.arange(6)[None]
    assert torch.equal(read(tokens).logits, model(tokens).logits)

    cases = [({"bidirectional": True}, "sees one side alone")]
    cases += [({"_target_": "torch.nn.Linear"}, "its model is not one of transformers")]
    for more, said in cases:
        _say_model(runs, **more)
        other = tmp_path / "other"
        assert MAIN(["a", str(other), "--results", str(runs), "--transformers"]) == 2
        assert said in capsys.readouterr().err and not other.exists()


def test_a_t5_of_transformers_begins_its_answers_as_it_has_learnt(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    runs, out = _saved(tmp_path, model=from_config(**T5).state_dict()), tmp_path / "out"
    _say_model(runs, T5)
    assert MAIN(["a", str(out), "--results", str(runs), "--transformers"]) == 0
    read, tokens = (
        transformers.T5ForConditionalGeneration.from_pretrained(out),
        torch.ones(1, 3).long(),
    )
    assert int(read.generate(tokens, max_new_tokens=2)[0, 0]) == 0  # padding
    assert torch.isfinite(read(tokens, labels=tokens).loss)
