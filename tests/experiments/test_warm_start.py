"""Starting from weights of a run or a file: what is taken, resized, left out, and refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import save_file
from timm.models import VisionTransformer
from torch import nn

from experiments import checkpoint, runner, start_from, warm_start
from experiments.config import ConfigError, RunConfig, UserError
from experiments.data.order import seed_all
from experiments.identity import run_id
from experiments.models.position_embeddings import grids_behind, resized
from experiments.store import read_json
from experiments.table import read_runs

SHORT = {"train__epochs": None, "train__steps": 2, "launch__log_every_steps": 1}


def config(root: Path, section: Any = None, **changes: Any) -> RunConfig:
    return tiny.config(root, **{**SHORT, **changes}, start_from=section)


def header(root: Path, made: RunConfig) -> dict[str, Any]:
    return read_json(root / run_id(made) / "run.json")


def end_of(root: Path, made: RunConfig) -> dict[str, Any]:
    found = checkpoint.find_good(root / run_id(made) / "checkpoints")
    assert found is not None
    return checkpoint.load(found)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunConfig]:
    root = tmp_path_factory.mktemp("runs")
    made = config(root, optimizer_name="adamw", train__steps=4)
    runner.run(made)
    return root, made


@pytest.mark.parametrize("weights", ["raw", "ema"])
def test_a_run_goes_on_from_the_end_of_another(source: Any, weights: str) -> None:
    """With a learning rate of 0 the weights stay those of the source."""
    root, before = source
    section = {"source": run_id(before), "weights": weights}
    after = config(root, section, optimizer__lr=0.0, optimizer__weight_decay=0.0)
    runner.run(after)
    old, new = end_of(root, before), end_of(root, after)["model"]
    wanted = old["model"] if weights == "raw" else old["average"]
    for name, tensor in new.items():
        if "running" not in name and "num_batches" not in name:
            prefix = "" if weights == "raw" else "module."
            assert torch.equal(tensor, wanted[prefix + name]), name
    (said,) = json.loads(header(root, after)["start_from"])
    assert (said["source"], said["optimizer"], said["step"]) == (run_id(before), "adamw", 4)
    assert len(said["sha256"]) == 64 and said["resized"] == {} and said["left_out"] == []
    rows = read_runs(root, runs=[run_id(after)])
    assert set(rows.init_optimizer) == {"adamw"}


def test_left_out_parts_keep_fresh_weights(source: Any) -> None:
    root, before = source
    section = {"source": run_id(before), "leave_out": ["head.*"]}
    still = {"optimizer__lr": 0.0, "optimizer__weight_decay": 0.0}
    after, fresh = config(root, section, **still), config(root, None, **still)
    for made in (after, fresh):
        runner.run(made)
    ours, old, new = (end_of(root, c)["model"] for c in (after, before, fresh))
    assert torch.equal(ours["head.2.weight"], new["head.2.weight"])
    assert torch.equal(ours["body.0.weight"], old["body.0.weight"])
    (said,) = json.loads(header(root, after)["start_from"])
    assert said["left_out"] == ["head.2.bias", "head.2.weight"]


def test_what_was_taken_resized_and_left_fresh_is_in_the_log(source: Any) -> None:
    root, before = source
    after = config(root, {"source": run_id(before), "leave_out": ["head.*"]}, seed=7)
    runner.run(after)
    log = (root / run_id(after) / "log.txt").read_text()
    assert f" weights of {run_id(before)}; fresh: head.2.bias, head.2.weight\n" in log
    facts = {"source": "v.pth", "weights": "ema", "loaded": 3, "left_out": []}
    said = warm_start.in_words({**facts, "resized": {"pos_embed": "(1, 4, 8) -> (1, 9, 8)"}})
    assert said == (
        "begins with 3 averaged weights of v.pth; resized: pos_embed (1, 4, 8) -> (1, 9, 8)"
    )


def test_files_of_any_kind_give_the_same_run(source: Any, tmp_path: Path) -> None:
    """The content is part of the identity, its path and its container's place are not."""
    root, before = source
    state = end_of(root, before)["model"]
    save_file(state, tmp_path / "a.safetensors")
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "b.pth")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/c.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes())
    ends, ids = [], []
    for name in ("a.safetensors", "b.pth", "elsewhere/c.safetensors"):
        made = config(root, str(tmp_path / name))
        ids.append(run_id(made))
        runner.run(made)
        ends.append(end_of(root, made)["model"])
    assert ids[0] == ids[2] != ids[1]
    assert all(torch.equal(ends[0][name], end[name]) for end in ends for name in end)


def test_weights_that_are_replaced_while_a_run_begins_are_not_taken_for_others(
    source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is known by what the file held when it was called."""
    state = end_of(*source)["model"]
    save_file(state, tmp_path / "a.safetensors")
    made = config(tmp_path, str(tmp_path / "a.safetensors"))
    read = warm_start._read

    def overtaken(path: Path, *args: Any) -> Any:
        monkeypatch.undo()
        save_file({name: tensor + 1 for name, tensor in state.items()}, path)
        return read(path, *args)

    monkeypatch.setattr(warm_start, "_read", overtaken)
    with pytest.raises(UserError, match="replaced while this run began.*call the same command"):
        runner.run(made)
    assert runner.run(made).state == "finished"
    assert len(list(tmp_path.glob("*/run.json"))) == 1


def test_what_a_source_changes_is_part_of_which_run_it_is(tmp_path: Path) -> None:
    plain = run_id(config(tmp_path))
    sections = ["a", "b", {"source": "a", "weights": "ema"}, {"source": "a", "leave_out": ["x"]}]
    names = {run_id(config(tmp_path, section)) for section in sections}
    assert len(names | {plain}) == 5
    assert run_id(config(tmp_path, {"source": None, "weights": "raw"})) == plain
    assert run_id(config(tmp_path, {"source": "a", "into": ""})) == run_id(config(tmp_path, "a"))


def test_a_resumed_run_does_not_start_again(source: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    root, before = source
    section = {"source": run_id(before)}
    whole = config(root / "whole", {"source": str(root / run_id(before))}, train__steps=6)
    runner.run(whole)
    part = config(root, section, train__steps=6, checkpoint__every_steps=3)
    loss, calls = tiny.Task.loss, iter(range(1, 100))

    def dies(self: Any, *args: Any) -> Any:
        if next(calls) == 5:
            raise RuntimeError("killed")
        return loss(self, *args)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(tiny.Task, "loss", dies)
        runner.run(part)
    runner.run(part)
    ours, theirs = end_of(root, part)["model"], end_of(root / "whole", whole)["model"]
    assert run_id(part) == run_id(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


REFUSED = {
    "another shape": (
        {"model__width": 4},
        {},
        r"body.0.weight is \(6, .* and \(4, .*leave_out=\[b",
    ),
    "lacks": ({"model__batch_norm": False}, {}, r"the model has no body.1.running_mean"),
    "nothing there": ({}, {"take": "tower."}, r"nothing in .* is named tower\.\.\."),
    "no average": ({}, {"weights": "ema", "source": "raw.safetensors"}, "holds no ema weights"),
    "other content": ({}, {"sha256": "0" * 64}, "another file"),
    "a pattern of nothing": ({}, {"leave_out": ["hed.*"]}, r"leave_out=hed\.\*: no tensor of"),
    "nothing is left": ({}, {"leave_out": ["*"]}, "nothing of .* is left to begin with"),
    "not finite": ({}, {"source": "nan.safetensors"}, "body.0.weight of .* is not finite"),
    "whole numbers": ({}, {"source": "int.safetensors"}, "is torch.int8, and torch.float32 here"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_named(source: Any, tmp_path: Path, case: str) -> None:
    root, before = source
    changes, section, message = REFUSED[case]
    state = end_of(root, before)["model"]
    save_file(state, tmp_path / "raw.safetensors")
    for name, weight in (
        ("nan", torch.full_like(state["body.0.weight"], torch.nan)),
        ("int", state["body.0.weight"].to(torch.int8)),
    ):
        save_file(state | {"body.0.weight": weight}, tmp_path / f"{name}.safetensors")
    section = {"source": run_id(before), **section}
    if section["source"].endswith(".safetensors"):
        section["source"] = str(tmp_path / section["source"])
    with pytest.raises(UserError, match=message) as caught:
        runner.run(config(root, section, **changes))
    assert "\n" not in str(caught.value)


def test_unfinished_unknown_and_damaged_sources_are_refused(source: Any, tmp_path: Path) -> None:
    root, before = source
    with pytest.raises(
        UserError, match=f"is no file, and no run in .*; did you mean {run_id(before)}"
    ):
        start_from.check(config(root, run_id(before)[:-1]))
    (tmp_path / "torn.safetensors").write_bytes(b"\0" * 7)
    (tmp_path / "torn.pt").write_bytes(b"PK\3\4torn")
    for name in ("torn.safetensors", "torn.pt"):
        with pytest.raises(UserError, match="cannot be read as weights"):
            runner.run(config(root, str(tmp_path / name)))
    status = root / run_id(before) / "status.json"
    text = status.read_text()
    status.write_text(text.replace("finished", "interrupted"))
    with pytest.raises(UserError, match="is interrupted, not finished"):
        runner.run(config(root, run_id(before), seed=7))
    status.write_text(text.replace('"step": 4', '"step": 5'))
    with pytest.raises(UserError, match="has no good checkpoint of its last step"):
        runner.run(config(root, run_id(before), seed=7))
    status.write_text(text)


def test_a_part_takes_its_own_names_from_the_shown_weights_of_every_shard(tmp_path: Path) -> None:
    def towers() -> Any:
        torch.manual_seed(0)
        return nn.ModuleDict({"image": nn.Linear(2, 3), "text": nn.Linear(3, 2)})

    def load(source: str, **more: str) -> Any:
        model, task = towers(), SimpleNamespace(adapt=lambda state, model: state)
        section = {"source": str(tmp_path / source), **more}
        warm_start.load(config(tmp_path, section), task, model)  # type: ignore[arg-type]
        return model

    weight, bias = torch.full((3, 2), 5.0), torch.full((3,), 7.0)
    part = {"tower.weight": weight, "tower.bias": bias, "head.weight": weight}
    stale = {name: 0 * tensor for name, tensor in part.items()}
    torch.save({"model": stale, "shown": part}, tmp_path / "ours.pt")
    (tmp_path / "shards").mkdir()
    for number, (name, tensor) in enumerate(part.items()):
        save_file({name: tensor.clone()}, tmp_path / "shards" / f"{number}.safetensors")
    index = {"weight_map": {name: f"{k}.safetensors" for k, name in enumerate(part)}}
    (tmp_path / "shards/model.safetensors.index.json").write_text(json.dumps(index))
    for source in ("ours.pt", "shards"):
        model = load(source, take="tower.", into="image.")
        assert torch.equal(model["image"].weight, weight) and torch.equal(model["image"].bias, bias)
        assert torch.equal(model["text"].weight, towers()["text"].weight)
    wrong = {"turned": weight.t().contiguous(), "inf": weight.clone().index_put_(*ONE_INF)}
    for name, tensor in wrong.items():
        save_file(part | {"tower.weight": tensor}, tmp_path / f"{name}.safetensors")
        with pytest.raises(UserError, match=r"is \(2, 3\) there and \(3, 2\)|is not finite"):
            load(f"{name}.safetensors", take="tower.", into="image.")


ONE_INF = (torch.tensor([0]), torch.tensor([1])), torch.tensor(torch.inf)


def test_a_device_is_no_file_of_weights_and_is_never_read(tmp_path: Path) -> None:
    """/dev/zero has no end: neither its checksum nor its content is asked for."""
    made = config(tmp_path, "/dev/zero")
    with pytest.raises(UserError, match="/dev/zero is no file, and no run in"):
        start_from.check(made)
    assert start_from.identity(made) == [{"run": "zero"}]


def test_no_code_is_unpickled(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path(tmp_path / "pwned").touch, ())

    torch.save({"model": {"body.0.weight": Evil()}}, tmp_path / "evil.pt")
    with pytest.raises(UserError, match="cannot be read as weights: it is damaged, or would"):
        runner.run(config(tmp_path, str(tmp_path / "evil.pt")))
    assert not (tmp_path / "pwned").exists()


def test_only_what_does_not_fit_is_proposed_to_be_left_out(source: Any, tmp_path: Path) -> None:
    """`body.*` would leave out all of the body, and nobody would see it."""
    root, before = source
    state = end_of(root, before)["model"]
    save_file({n: t for n, t in state.items() if n != "body.0.bias"}, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"lacks body.0.bias;.*leave_out=\[body.0.bias\]$"):
        runner.run(config(root, str(tmp_path / "a.safetensors")))
    save_file({n: t for n, t in state.items() if "body.0" not in n}, tmp_path / "b.safetensors")
    with pytest.raises(UserError, match=r"leave_out=\[body.0.\*\]$"):
        runner.run(config(root, str(tmp_path / "b.safetensors")))


def test_several_sources_in_one_line_each_for_its_part(tmp_path: Path) -> None:
    """As the module's own text says it: on the command line, and beside keys of its own."""
    from experiments.compose import compose

    entries = [{"source": "a", "into": "image."}, {"source": "b", "leave_out": ["x.*"]}]
    said = "[{source: a, into: image.}, {source: b, leave_out: [x.*]}]"
    for key in ("start_from", "start_from.source"):
        made = compose(["experiment=vit_proxy", f"{key}={said}"])
        assert [found.source for found in start_from.sources(made)] == ["a", "b"]
        assert start_from.identity(made) == start_from.identity(config(tmp_path, entries))
    with pytest.raises(ConfigError, match="start_from.into stands beside a list"):
        config(tmp_path, {"source": entries, "into": "text."})


def test_a_folder_that_is_a_run_and_weights_or_has_another_name(source: Any) -> None:
    root, before = source
    copied = root / "elsewhere" / "renamed"
    shutil.copytree(root / run_id(before), copied)
    with pytest.raises(UserError, match=f"holds the run {run_id(before)}: give the folder that"):
        start_from.check(config(root, str(copied)))
    (copied / "model.safetensors").touch()
    with pytest.raises(UserError, match=r"holds a run and model.safetensors: name the file"):
        start_from.check(config(root, str(copied)))


@pytest.mark.parametrize(
    "section", [{"sorce": "a"}, {"weights": "best", "source": "a"}, 7, {"into": "x"}]
)
def test_a_section_that_says_something_else_is_refused(tmp_path: Path, section: Any) -> None:
    with pytest.raises(ConfigError, match="start_from"):
        config(tmp_path, section)


@pytest.mark.parametrize(
    ("token", "pool", "old", "new"),
    [(True, "token", 16, 24), (False, "avg", 16, 32), (True, "token", (4, 40), (4, 72))],
)
def test_position_embeddings_are_resampled(token: bool, pool: str, old: Any, new: Any) -> None:
    """A larger grid of the same embedding; the class token's is kept; sizes that fit stay."""

    def vit(size: Any) -> VisionTransformer:
        seed_all(0)
        options = {"patch_size": 4, "embed_dim": 8, "depth": 1, "num_heads": 2, "num_classes": 3}
        return VisionTransformer(size, class_token=token, global_pool=pool, **options)  # type: ignore[arg-type]

    state, larger = vit(old).state_dict(), vit(new)
    fitted = resized(state, larger)
    assert fitted["pos_embed"].shape == larger.pos_embed.shape
    prefix = int(token)
    assert torch.equal(fitted["pos_embed"][:, :prefix], state["pos_embed"][:, :prefix])
    patches = fitted["pos_embed"][:, prefix:].mean(1), state["pos_embed"][:, prefix:].mean(1)
    torch.testing.assert_close(*patches, atol=0.02, rtol=0)
    assert all(torch.equal(fitted[n], state[n]) for n in state if n != "pos_embed")
    assert resized(state, vit(old))["pos_embed"] is state["pos_embed"]


def positions(number: int, grid: tuple[int, int], token: bool) -> torch.Tensor:
    """Embeddings of so many places in a ViT with such a grid, resampled for it."""
    vit = VisionTransformer(
        (4 * grid[0], 4 * grid[1]), 4, embed_dim=8, depth=1, num_heads=2, num_classes=3,
        class_token=token, global_pool="token" if token else "avg",
    )  # fmt: skip
    rows = torch.arange(number * 8.0).view(1, number, 8)
    return resized({"pos_embed": rows}, vit)["pos_embed"]


@pytest.mark.parametrize(
    ("number", "token"), [(37, False), (36, True), (26, False), (25, True), (50, False)]
)
def test_a_class_token_too_many_or_too_few_is_no_grid(number: int, token: bool) -> None:
    """36 + 1 places were taken for a line of 37, and brought to a square without a word."""
    with pytest.raises(
        UserError, match=r"pos_embed has .* are no grid like its 4 x 4: set"
    ) as said:
        positions(number, (4, 4), token)
    assert "\n" not in str(said.value)


@pytest.mark.parametrize(
    ("number", "grid", "old"),
    [(16, (8, 4), (4, 4)), (22, (8, 2), None), (32, (4, 2), (8, 4)), (36, (1, 54), (1, 36))],
)
def test_a_square_fits_any_shape_and_a_line_stays_one(
    number: int, grid: tuple[int, int], old: tuple[int, int] | None
) -> None:
    """16 places were taken for 8 x 2 by a model of 8 x 4; nearly all weights are of squares."""
    from timm.layers.pos_embed import resample_abs_pos_embed

    if old is None:
        with pytest.raises(UserError, match="are no grid like its 8 x 2"):
            positions(number, grid, False)
        return
    rows = torch.arange(number * 8.0).view(1, number, 8)
    wanted = resample_abs_pos_embed(rows, list(grid), list(old), num_prefix_tokens=0)
    assert torch.equal(positions(number, grid, False), wanted)


def a_vit(height: int, width: int, patch: Any) -> VisionTransformer:
    return VisionTransformer(
        (height, width), patch, in_chans=1, embed_dim=8, depth=1, num_heads=2, num_classes=3,
        class_token=False, global_pool="avg",
    )  # fmt: skip


VIT = {"_target_": "timm.models.VisionTransformer", "img_size": [8, 32], "patch_size": 2}


@pytest.mark.parametrize(
    ("side", "places"), [(32, 256), (16, 64)], ids=["of another number", "of the same number"]
)
def test_the_grid_of_a_run_is_that_of_its_configuration(
    tmp_path: Path, side: int, places: int
) -> None:
    """4 x 16 patches were resized as 8 x 8, or taken as they were by a model of 8 x 8."""
    from timm.layers.pos_embed import resample_abs_pos_embed

    before, after = a_vit(8, 32, 2), a_vit(side, side, 2)
    folder = tmp_path / "it"
    (folder / "checkpoints").mkdir(parents=True)
    torch.save({"step": 1, "model": before.state_dict()}, folder / "weights.pt")
    (folder / "run.json").write_text('{"run_id": "it"}')
    (folder / "config.yaml").write_text(json.dumps({"model": VIT}))
    source = start_from.Source("it")
    state = warm_start._read(folder / "weights.pt", source)
    grids = warm_start._grids(state, source, folder)
    assert grids == {"pos_embed": (4, 16)}
    fitted = warm_start._on_known_grids(state, after, grids)
    new = [side // 2] * 2
    wanted = resample_abs_pos_embed(before.pos_embed, new, [4, 16], num_prefix_tokens=0)
    assert torch.equal(fitted["pos_embed"], wanted)
    assert warm_start._resized(state, fitted, after, grids) == {
        "pos_embed": f"(1, 64, 8), taken for 4 x 16, -> (1, {places}, 8)"
    }


def test_patches_that_may_be_either_of_two_grids_are_asked_for(tmp_path: Path) -> None:
    """64 places for a model of 8 x 32 patches: 8 x 8, or 4 x 16?"""
    save_file(a_vit(8, 32, 2).state_dict(), tmp_path / "a.safetensors")
    model, section = a_vit(16, 64, 2), {"source": str(tmp_path / "a.safetensors")}
    task: Any = SimpleNamespace(adapt=resized)
    with pytest.raises(UserError, match=r"8 x 8 or, like the model's 8 x 32, 4 x 16: say which"):
        warm_start.load(config(tmp_path, section), task, model)
    said = {}
    for grid in ([4, 16], [8, 8]):
        (facts,) = warm_start.load(config(tmp_path, {**section, "grid": grid}), task, model)
        assert f"taken for {grid[0]} x {grid[1]}," in facts["resized"]["pos_embed"]
        said[tuple(grid)] = model.pos_embed.detach().clone()
    assert not torch.equal(said[4, 16], said[8, 8])
    ids = {run_id(config(tmp_path, {**section, "grid": g})) for g in (None, [4, 16], [8, 8])}
    assert len(ids) == 3


@pytest.mark.parametrize(
    ("names", "section", "problem"),
    [
        (["pos_embed"], VIT, r"grid=\[8,8\]: that run has 4 x 16 patches: leave it"),
        (["head.weight"], None, r"grid=\[8,8\]: these weights have no embedding of positions"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(names: list[str], section: Any, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        grids_behind(names, section, [8, 8])


def test_what_is_no_section_of_a_vit_tells_no_grid() -> None:
    towers = {"image": VIT, "text": {"_target_": "x"}}
    found = grids_behind(["image.pos_embed", "text.pos_embed", "pos_embed", "a.b"], towers)
    assert found == {"image.pos_embed": (4, 16)}
    for broken in (
        None,
        [],
        {"img_size": "a", "patch_size": 2},
        {"img_size": 8},
        {**VIT, "patch_size": 64},
    ):
        assert grids_behind(["pos_embed"], broken) == {}
    wrong = a_vit(8, 32, 2)
    with pytest.raises(UserError, match="64 are no grid of 5 x 5"):
        resized(wrong.state_dict(), a_vit(16, 16, 4), {"pos_embed": (5, 5)})


def test_a_width_that_differs_is_left_for_the_check_of_shapes() -> None:
    vit = VisionTransformer(16, 4, embed_dim=8, depth=1, num_heads=2, num_classes=3)
    state = {"pos_embed": torch.zeros(1, 38, 12)}
    assert resized(state, vit)["pos_embed"] is state["pos_embed"]


@pytest.mark.parametrize("name", ["old.x", "bias"], ids=["of the source alone", "of the model"])
def test_a_pattern_may_be_of_the_source_or_of_the_model_alone(tmp_path: Path, name: str) -> None:
    model = torch.nn.Linear(2, 2, bias=name == "bias")
    weights = {"weight": torch.ones(2, 2), **({"old.x": torch.ones(1)} if name != "bias" else {})}
    torch.save(weights, tmp_path / "a.pt")
    section = {"source": str(tmp_path / "a.pt"), "leave_out": [name]}
    task: Any = SimpleNamespace(adapt=lambda state, _: state)
    (facts,) = warm_start.load(tiny.config(tmp_path, start_from=section), task, model)
    assert facts["loaded"] == 1 and facts["left_out"] == (["bias"] if name == "bias" else [])
    assert torch.equal(model.weight, torch.ones(2, 2))
