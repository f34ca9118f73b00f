"""Text in files: every format reads the same, errors are one line, caches are safe."""

from __future__ import annotations

import gzip
import multiprocessing
import os
import signal
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import forked
import numpy as np
import pytest
import texts

from experiments.config import ConfigError, UserError
from experiments.data import text_readers, token_store, tokenising
from experiments.data.locate import DataMissing
from experiments.data.order import BatchPlan
from experiments.data.text_files import TextFiles
from experiments.data.text_paths import check_files, find_files
from experiments.data.text_readers import Piece, read_pieces, without_markers
from experiments.data.token_store import StoredTokens, plan_of
from experiments.data.token_windows import ahead
from experiments.data.tokenising import tokenise
from experiments.data.tokenizer import CharacterTokenizer, JsonTokenizer, SentencePieceTokenizer

SUFFIXES = [".parquet", ".json.gz", ".jsonl", ".txt"]


def source(folder: Path, suffix: str = ".jsonl", **settings: Any) -> TextFiles:
    for split in ("train", "validation"):
        if not (folder / "text").exists() or not any((folder / "text").glob(f"*{split}*")):
            texts.write(folder / "text", split, suffix)
    given = {"length": 16, "cache_dir": str(folder / "cache"), **settings}
    return TextFiles("mine", str(folder / "text"), **texts.save(texts.bpe(), folder), **given)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_the_same_tokens(tmp_path: Path, suffix: str) -> None:
    found = source(tmp_path, suffix)
    stream = found.streams["train"]
    tokenizer = JsonTokenizer(texts.bpe())
    end = tokenizer.eos_id
    expected: list[int] = [end]
    for ids in tokenizer.encode(texts.DOCUMENTS):
        expected += [*ids.tolist(), end]
    assert stream.read(0, len(stream)).tolist() == expected
    assert stream.num_words == sum(len(text.split()) for text in texts.DOCUMENTS)
    assert stream.read(3, 9).tolist() == expected[3:9]
    assert stream.read(0, 9).dtype == np.uint16
    words = tokenizer.decode(stream.read(0, len(stream)).tolist())
    assert words == "".join(texts.DOCUMENTS)  # nothing is lost


def test_windows_follow_each_other_and_share_one_token(tmp_path: Path) -> None:
    found = source(tmp_path)
    stream = found.streams["train"]
    whole = stream.read(0, len(stream)).astype(np.int64)
    number = found.num_windows("train", 1)
    windows = found.read("train", np.arange(number), 1).numpy()
    assert (windows[1:, 0] == windows[:-1, -1]).all()
    rest = found.rest("train", 1)
    assert rest is not None
    targets = np.concatenate([windows[:, 1:].ravel(), rest[0, 1:].numpy()])
    assert (targets == whole[1:]).all()  # each token but the first is the target of one window


def test_tokens_of_several_files_and_parts_are_one_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = source(tmp_path / "a", ".txt")
    monkeypatch.setattr(token_store, "PART_BYTES", 1)
    apart = source(tmp_path / "b", ".txt")
    folder = next((tmp_path / "b" / "cache").glob("mine-train-*"))
    assert len(list(folder.glob("*.tokens"))) == 4
    one, other = together.streams["train"], apart.streams["train"]
    assert len(one) == len(other)
    for start in range(0, len(one), 7):
        assert (one.read(start, start + 20) == other.read(start, start + 20)).all()


def test_markers_of_wiki40b_are_kept_or_stripped(tmp_path: Path) -> None:
    path = texts.write(tmp_path, "train", ".parquet", [texts.ARTICLE])
    assert list(read_pieces(path)) == [(texts.ARTICLE, True)]
    stripped = "A Title\nHistory\nOne line.\nAnother line."
    assert list(read_pieces(path, "strip")) == [(stripped, True)]
    assert without_markers("no markers") == "no markers"


# --- what is wrong --------------------------------------------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def spoiled(folder: Path, kind: str) -> Path:
    suffix = {"gz": ".json.gz", "parquet": ".parquet", "column": ".parquet"}.get(kind, ".jsonl")
    path = texts.write(folder, "train", suffix)
    if kind in ("gz", "parquet"):
        cut(path)
    elif kind == "column":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.table({"words": ["a"]}), path)
    elif kind == "json":
        path.write_text('{"text": "fine"}\n{"text": "cu')
    elif kind == "field":
        path.write_text('{"content": "fine"}\n')
    elif kind == "half":
        path.write_text('{"text": "\\ud83d\\ude00"}\n{"text": "\\ud83d"}\n')
    elif kind == "deep":
        path.write_text("[" * 100_000)
    elif kind == "utf8":
        path.write_bytes(b'{"text": "\xff\xfe"}\n')
    else:
        path = folder / "c4-train.json.gz"
        path.write_bytes(b"this is not gzip")
    return path


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("gz", "is cut or damaged"),
        ("parquet", "is cut or damaged"),
        ("foreign", "is cut or damaged"),
        ("column", "has no column 'text' (there is: words)"),
        ("json", "line 2: no JSON"),
        ("field", "line 1: there is no text under 'text' (there is: content)"),
        ("utf8", "is not UTF-8 text"),
        ("half", r"line 2: '\ud83d' is half a character: mend that line"),
        ("deep", "line 1: no JSON"),
    ],
)
def test_a_cut_or_foreign_file_ends_with_one_line(tmp_path: Path, kind: str, said: str) -> None:
    path = spoiled(tmp_path, kind)
    with pytest.raises(UserError) as error:
        list(read_pieces(path))
    assert said in str(error.value) and str(path) in str(error.value)
    assert "\n" not in str(error.value)


def section(folder: Path, **changes: Any) -> dict[str, Any]:
    given = {"name": "c4", "format": "c4", "root": str(folder), **changes}
    return {**texts.save(texts.bpe(), folder), **given}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"root": None}, "data.root is not set; get c4 from https"),
        ({"root": "/nowhere"}, "data.root=/nowhere is not a folder"),
        ({"val_split": "later"}, "no text for the split 'later'"),
        ({"val_split": "notes.csv"}, "no text for the split 'notes.csv'"),
        ({"val_split": "train"}, "is in data.train_split, too: name another split"),
        ({"format": "pdf"}, "data.format=pdf: must be one of"),
        ({"tokenizer_file": None}, "data.tokenizer_file is not set"),
        ({"tokenizer_file": "/no/file"}, "data.tokenizer_file=/no/file is no file"),
        ({"tokenizer_sha256": "123"}, "must be 64 digits"),
        ({"length": 0}, "data.length=0"),
    ],
)
def test_the_quick_check_names_what_is_missing(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    for split in ("train", "validation"):
        texts.write(tmp_path, split, ".jsonl")
    (tmp_path / "notes.csv").write_text("a,b\n")
    check_files(section(tmp_path), "lm_proxy")
    with pytest.raises((DataMissing, ConfigError), match=said.replace(".", r"\.")) as error:
        check_files(section(tmp_path, **changes), "lm_proxy")
    assert "\n" not in str(error.value)


def test_splits_are_found_under_the_names_that_people_give_them(tmp_path: Path) -> None:
    for name in ("en/valid/a.txt", "wiki.train.tokens.txt", "test-00000-of-00001.parquet"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [p.name for p in find_files(str(tmp_path), "train")] == ["wiki.train.tokens.txt"]
    assert [p.name for p in find_files(str(tmp_path), "test")] == ["test-00000-of-00001.parquet"]
    assert [p.name for p in find_files(str(tmp_path / "en"), "validation")] == ["a.txt"]
    assert find_files(str(tmp_path), "en/valid/a.txt") == [tmp_path / "en/valid/a.txt"]


# --- the cache ------------------------------------------------------------------------------------


def folders(path: Path) -> set[str]:
    return {p.name for p in (path / "cache").glob("mine-train-*")}


def test_the_name_of_a_cache_follows_all_that_makes_it(tmp_path: Path) -> None:
    source(tmp_path)
    first = folders(tmp_path)
    source(tmp_path, length=8)
    assert folders(tmp_path) == first  # windows are cut later
    source(tmp_path, markers="strip")
    second = folders(tmp_path)
    assert len(second) == 2
    path = next((tmp_path / "text").glob("c4-train*"))
    path.write_bytes(path.read_bytes().replace(b"first", b"fifth"))  # the same size
    source(tmp_path)
    assert len(folders(tmp_path)) == 3
    other = texts.save(texts.sentencepiece(), tmp_path)
    TextFiles("mine", str(tmp_path / "text"), **other, length=16, cache_dir=str(tmp_path / "cache"))
    assert len(folders(tmp_path)) == 4


def noted(log: Path, path: Path) -> Iterator[Piece]:
    """Reads a file and notes that it did."""
    with log.open("a") as file:
        file.write(f"{os.getpid()} {path.name}\n")
    yield from read_pieces(path)


class Reader:
    def __init__(self, log: Path, kill_at: str = "") -> None:
        self.log, self.kill_at = log, kill_at

    def __call__(self, path: Path) -> Iterator[Piece]:
        yield from noted(self.log, path)
        if path.name == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


def plan(folder: Path, kill_at: str = "") -> token_store.Plan:
    files = find_files(str(folder / "text"), "train")
    tokenizer = JsonTokenizer(texts.bpe())
    reader = Reader(folder / "log", kill_at)
    return plan_of("mine", files, folder, reader, tokenizer, folder / "cache")


def many_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_store, "PART_BYTES", 1)
    texts.write(folder / "text", "train", ".txt", [f"text {n} " * 300 for n in range(12)])


def test_processes_that_start_together_make_each_part_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many_files(tmp_path, monkeypatch)
    fork = multiprocessing.get_context("fork")
    started = [fork.Process(target=tokenise, args=(plan(tmp_path),)) for _ in range(3)]
    for process in started:
        process.start()
    for process in started:
        assert forked.join(process) == 0
    read = [line.split()[1] for line in (tmp_path / "log").read_text().splitlines()]
    assert sorted(read) == sorted(f"{n}.txt" for n in range(12))
    assert len(StoredTokens(plan(tmp_path))) > 12 * 300


def test_a_killed_process_leaves_what_it_has_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many_files(tmp_path, monkeypatch)
    fork = multiprocessing.get_context("fork")
    process = fork.Process(target=tokenise, args=(plan(tmp_path, kill_at="3.txt"),))
    process.start()
    assert forked.join(process) == -signal.SIGKILL
    before = (tmp_path / "log").read_text().count("\n")
    tokenise(plan(tmp_path))
    assert (tmp_path / "log").read_text().count("\n") == 12 + 1  # one part was made twice
    assert 0 < before < 12
    assert not list(plan(tmp_path).folder.glob("*.tmp"))


def test_a_part_that_was_cut_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many_files(tmp_path, monkeypatch)
    tokenise(plan(tmp_path))
    whole = StoredTokens(plan(tmp_path))
    expected = whole.read(0, len(whole))
    cut(plan(tmp_path).folder / "part-00004.tokens")
    tokenise(plan(tmp_path))
    again = StoredTokens(plan(tmp_path))
    assert (again.read(0, len(again)) == expected).all()


def test_a_change_that_the_name_of_the_cache_does_not_tell_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of a file, of the same size. A copy, which only has another time, is not."""
    monkeypatch.setattr(token_store, "EDGE_BYTES", 8)
    many_files(tmp_path, monkeypatch)
    tokenise(plan(tmp_path))
    path = tmp_path / "text/train/7.txt"
    for content, num_read in ((path.read_bytes(), 12), (path.read_bytes()[::-1], 13)):
        middle = content[8:-8]
        path.write_bytes(path.read_bytes()[:8] + middle + path.read_bytes()[-8:])
        os.utime(path, (1, 1) if num_read == 12 else (2, 2))
        for _ in range(2):
            tokenise(plan(tmp_path))
            assert (tmp_path / "log").read_text().count("\n") == num_read
    stored = StoredTokens(plan(tmp_path))
    found = JsonTokenizer(texts.bpe()).decode(stored.read(0, len(stored)).tolist())
    assert path.read_text() in found


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    texts.write(tmp_path / "text", "train", ".txt")
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(UserError, match=r"cannot be written .* data\.cache_dir"):
        tokenise(plan(tmp_path))


def test_memory_does_not_grow_with_the_text(tmp_path: Path) -> None:
    def peak(megabytes: int) -> int:
        path = tmp_path / f"train-{megabytes}.txt"
        path.write_text("the same line again and again\n" * (megabytes * 35_000))
        tokenizer = CharacterTokenizer("abcdefghijklmnopqrstuvwxyz \n")
        tokenizer.eos_id = 0
        made = plan_of("big", [path], tmp_path, read_pieces, tokenizer, tmp_path / "cache")
        tracemalloc.start()
        tokenise(made)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        stored = StoredTokens(made)
        assert len(stored) > megabytes * 1_000_000
        return found

    small, large = peak(2), peak(6)
    assert large - small < 16e6  # bytes; kept, 4 million more tokens would take 32e6


def test_batches_do_not_depend_on_ranks_threads_or_where_they_begin(tmp_path: Path) -> None:
    texts.write(tmp_path / "text", "train", ".jsonl", texts.DOCUMENTS * 9)
    found = source(tmp_path, ".jsonl", length=8)
    number = found.num_windows("train", 1)

    def batches(rank: int, size: int, start: int, num_threads: int = 0) -> list[list[Any]]:
        bare = BatchPlan(0, number, 4, 2 if size == 2 else 4, rank, size)
        make = lambda step: [found.read("train", n, 1).tolist() for n in bare.micro_batches(step)]  # noqa: E731
        return list(ahead(make, range(start, 2 * bare.steps_per_epoch), num_threads))

    alone = [micro[0] for micro in batches(0, 1, 0)]
    assert batches(0, 1, 0, 3) == batches(0, 1, 0)
    assert [micro[0] for micro in batches(0, 1, 3)] == alone[3:]
    halves = zip(batches(0, 2, 0), batches(1, 2, 0), strict=True)
    assert [[*one[0], *other[0]] for one, other in halves] == alone


def test_a_first_file_without_a_byte_is_a_document_of_its_own(tmp_path: Path) -> None:
    texts.write(tmp_path / "text", "train", ".txt", ["", *texts.DOCUMENTS])
    texts.write(tmp_path / "text", "validation", ".txt", [""])
    with pytest.raises(ConfigError, match="mine, val: 2 tokens are less than one window of 16"):
        source(tmp_path)
    found = source(tmp_path, val_split=None)
    assert found.streams["train"].num_documents == 1 + len(texts.DOCUMENTS)  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["bpe", "sentencepiece"])
@pytest.mark.parametrize("batch", [1, 60, 10**6])
def test_a_document_that_is_read_in_pieces_has_the_tokens_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, batch: int
) -> None:
    monkeypatch.setattr(text_readers, "PIECE", 40)
    monkeypatch.setattr(tokenising, "BATCH_CHARACTERS", batch)
    text = "The first document.\nIt has two lines,  and two spaces.\n" * 3 + "\n  café\nend"
    texts.write(tmp_path / "text", "train", ".txt", ["Third.", text, text + "\n", "Third."])
    content = getattr(texts, kind)()
    stream = TextFiles(
        "mine",
        str(tmp_path / "text"),
        **texts.save(content, tmp_path),
        length=16,
        val_split=None,
        cache_dir=str(tmp_path / "cache"),
    ).streams["train"]
    known = JsonTokenizer(content) if kind == "bpe" else SentencePieceTokenizer(content)
    whole = [np.append(ids, 1) for ids in known.encode(["Third.", text, text + "\n", "Third."])]
    assert stream.read(0, len(stream)).tolist() == [1, *np.concatenate(whole).tolist()]


def test_a_text_of_several_pieces_is_another_cache(tmp_path: Path) -> None:
    for name, content in {
        "a.txt": b"a",
        "b.txt": b"b" * text_readers.PIECE,
        "c.jsonl": b"",
    }.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "d.TXT.GZ").touch()
    of = [("c.jsonl",), ("c.jsonl", "a.txt"), ("a.txt", "b.txt"), ("d.TXT.GZ",)]
    assert [text_readers.version_of(tmp_path / n for n in names) for names in of] == [1, 2, 3, 3]


@pytest.mark.parametrize("name", ["train.jsonl", "train.json.gz", "train.txt", "train.TXT.GZ"])
def test_a_mark_of_byte_order_is_no_part_of_the_text(tmp_path: Path, name: str) -> None:
    text = "fine" if "txt" in name.lower() else '{"text": "fine"}'
    content = text.encode("utf-8-sig")
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.lower().endswith(".gz") else content)
    assert list(read_pieces(path)) == [("fine", True)]


def test_all_of_a_folder_is_read_and_what_is_no_text_is_said(tmp_path: Path) -> None:
    """At any depth, whatever the case of the suffix; a link back above is not followed."""
    for name in ("a.txt", "b.TXT", "c/d/e/f/g.txt"):
        (tmp_path / "text/train" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "text/train" / name).write_text(name * 9)
    for name in ("h.jsonl.zst", "i.md", "c/j", ".hidden", "_SUCCESS"):
        (tmp_path / "text/train" / name).touch()
    (tmp_path / "text/train/c/d/loop").symlink_to(tmp_path / "text/train")
    with pytest.warns(
        UserWarning, match=r"3 .* left out: no text by suffix \(1 without .* 1 zst\)"
    ):
        found = source(tmp_path, val_split=None)
    assert found.streams["train"].num_documents == 3  # type: ignore[attr-defined]
    (tmp_path / "text/train/k.txt").symlink_to("nowhere")
    with pytest.raises(DataMissing, match="k.txt is a link to nothing: complete the copy"):
        find_files(str(tmp_path / "text"), "train")


def test_held_out_windows_that_are_not_measured_are_said(tmp_path: Path) -> None:
    """A page of a proxy measures its first ones; of text of one's own that may be one document."""
    there = source(tmp_path).num_windows("val", 1)
    said = rf"mine, val: the first 3 of {there} windows are measured \(of all with data.max_eval"
    with pytest.warns(UserWarning, match=said):
        source(tmp_path, max_eval_windows=3)
    source(tmp_path, max_eval_windows=there)


def test_too_little_text_for_a_window_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="less than one window of 5000"):
        source(tmp_path, length=5000)


def test_words_of_pg19_are_the_authors_or_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from experiments.data import text_files

    with pytest.warns(UserWarning, match="its authors counted 3,007,061"):
        source(tmp_path / "a", ".txt", format="pg19")
    words = sum(len(text.split()) for text in texts.DOCUMENTS)
    official = {"train": words, "validation": words}
    monkeypatch.setattr(text_files, "PG19_WORDS", official)
    assert source(tmp_path / "a", ".txt", format="pg19").streams["val"].num_words == words


def test_a_gzipped_text_file_is_one_document(tmp_path: Path) -> None:
    path = tmp_path / "train.txt.gz"
    path.write_bytes(gzip.compress(texts.DOCUMENTS[0].encode()))
    assert list(read_pieces(path)) == [(texts.DOCUMENTS[0], True)]
