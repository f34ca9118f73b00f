"""Each source of data is checked by its own module, before anything heavy is imported."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.config import ConfigError, UserError
from experiments.data import bundled_paths, locate
from experiments.data.bundled import fashion_mnist
from experiments.data.locate import DataMissing, check_section


def section(source: str, **changes):
    return {"_target_": f"experiments.data.bundled.{source}", "name": source, **changes}


def test_every_data_page_has_a_check_and_the_bundled_ones_pass():
    from omegaconf import OmegaConf

    pages = {p.stem: OmegaConf.load(p) for p in Path("conf/data").glob("*.yaml")}
    of_evaluations = {  # sets that a page's `task.judge` names; they have no page of their own
        "experiments.data.bundled_glyphs.glyph_scripts",
        "experiments.data.karpathy.KarpathyCaptions",
        "experiments.data.zero_shot_sets.ZeroShotImages",
    }
    targets = {page["_target_"] for page in pages.values()}
    assert targets | of_evaluations == set(locate._CHECKS) and not targets & of_evaluations
    for name in ("digits", "mnist1d"):
        check_section(OmegaConf.to_container(pages[name]))


def test_a_root_of_another_source_is_not_held_against_imagenets_folders(tmp_path):
    check_section({"_target_": "my_lab.stripes", "root": "/nowhere", "reader": 3})
    check_section({"root": "/nowhere"})


@pytest.mark.parametrize("root", [None, "nowhere"])
def test_missing_fashion_mnist_names_its_remedies(tmp_path, monkeypatch, root):
    monkeypatch.setattr(bundled_paths, "FASHION_FOLDER", str(tmp_path / "debian"))
    given = root and str(tmp_path / root)
    with pytest.raises(DataMissing) as error:
        check_section(section("fashion_mnist", root=given), proxy="mixer_proxy")
    for part in (
        str(tmp_path / (root or "debian")), "apt-get install dataset-fashion-mnist", "data.root=",
        "experiment=mixer_proxy",
    ):  # fmt: skip
        assert part in str(error.value)
    assert "\n" not in str(error.value)


@pytest.fixture
def fashion(tmp_path) -> Path:
    """The four files of Fashion-MNIST in their real shapes, all pixels and labels 0."""
    for name, shape in bundled_paths.FASHION_FILES.items():
        header = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
        content = gzip.compress(header + bytes(int(np.prod(shape))), 1)
        (tmp_path / f"{name}.gz").write_bytes(content)
    return tmp_path


def test_fashion_mnist_is_read_where_it_lies_and_damage_is_named(fashion):
    page = section("fashion_mnist", root=str(fashion), num_train=30, num_val=20)
    check_section(page)
    arguments = {key: value for key, value in page.items() if key != "_target_"}
    data = fashion_mnist(**arguments)
    assert [len(labels) for _, labels in data.splits.values()] == [30, 20, 10_000]
    victim = fashion / "t10k-labels-idx1-ubyte.gz"
    whole = gzip.decompress(victim.read_bytes())
    damaged = [
        victim.read_bytes()[:20],
        b"text",
        b"",
        gzip.compress(whole[:99]),
        gzip.compress(b""),
    ]
    for content in damaged:
        victim.write_bytes(content)
        with pytest.raises(UserError, match="t10k-labels.* is damaged .*: get it again") as error:
            fashion_mnist(**arguments)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "source, values",
    [("fashion_mnist", {"num_train": 0}), ("fashion_mnist", {"num_train": 59_000}),
     ("fashion_mnist", {"num_val": None}), ("fashion_mnist", {"root": 3}),
     ("mnist1d", {"num_val": 15}), ("mnist1d", {"num_val": "all"}), ("mnist1d", {"val_seed": -1}),
     ("digits", {"name": None})],
)  # fmt: skip
def test_a_value_that_cannot_be_is_one_line(source, values):
    standard = {"num_train": 10_000, "num_val": 5000} if source == "fashion_mnist" else {}
    (key,) = values
    with pytest.raises(ConfigError, match=rf"data\.{key}") as error:
        check_section(section(source, **standard) | values)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "source, asked", [("mnist1d", "mnist1d>=0.0.2"), ("digits", "scikit-learn>=1.5")]
)
def test_a_missing_package_is_named(monkeypatch, source, asked):
    monkeypatch.setattr(bundled_paths, "find_spec", lambda package: None)
    with pytest.raises(DataMissing, match=f"the package [a-z0-9-]+: pip install '{asked}'$"):
        check_section(section(source))


def test_checks_import_the_standard_library_only():
    modules = sorted({path.partition(":")[0] for path in locate._CHECKS.values()})
    heavy = "{'torch', 'numpy', 'timm', 'PIL', 'sklearn', 'mnist1d'}"
    code = f"import sys, {', '.join(modules)}; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
