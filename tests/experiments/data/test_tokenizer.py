"""Tokenizers: any text comes back, the same text trains the same bytes, misfits are refused."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import pytest
import texts

from experiments.config import ConfigError, UserError
from experiments.data.tokenizer import (
    CharacterTokenizer,
    JsonTokenizer,
    SentencePieceTokenizer,
    WordTokenizer,
    check_fits,
    open_tokenizer,
)
from experiments.data.tokenizer_training import train_bpe, train_sentencepiece
from scripts import train_tokenizer

ODD = "two  spaces\n\nand a tab\t, caf\u00e9, \u4f60\u597d, \U0001f600 "


def test_any_text_comes_back() -> None:
    for tokenizer in (JsonTokenizer(texts.bpe()), SentencePieceTokenizer(texts.sentencepiece())):
        for text, ids in zip([ODD, ""], tokenizer.encode([ODD, ""]), strict=True):
            assert tokenizer.decode(ids.tolist()) == text
        assert tokenizer.mask_id is not None and tokenizer.eos_id == 1
        assert tokenizer.pad_id == 0
    characters = CharacterTokenizer(sorted(set(ODD)))
    assert characters.decode(characters.encode([ODD])[0].tolist()) == ODD
    assert characters.encode(["\U0010ffff!"])[0].tolist() == [characters.unknown_id] * 2


def test_training_gives_the_same_bytes_on_every_run() -> None:
    assert train_bpe(iter(texts.DOCUMENTS * 4), 300) == texts.bpe()
    again = train_sentencepiece(iter(texts.DOCUMENTS * 4), 300, symbols=["[MASK]"])
    assert again == texts.sentencepiece()


def test_the_script_makes_what_a_run_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts.write(tmp_path, "train", ".jsonl")
    contents = []
    for name in ("one", "two"):
        out = tmp_path / f"{name}.json"
        arguments = ["--root", str(tmp_path), "--kind", "bpe", "--vocab-size", "280"]
        assert train_tokenizer.main([*arguments, "--out", str(out)]) == 0
        said = dict(part.split("=") for part in capsys.readouterr().out.split())
        opened = open_tokenizer(said["data.tokenizer_file"], said["data.tokenizer_sha256"])
        assert opened.vocab_size == 280
        contents.append(out.read_bytes())
    assert contents[0] == contents[1]
    assert train_tokenizer.main([*arguments, "--split", "no", "--out", str(out)]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    too_many = [*arguments[:2], "--vocab-size", "32000", "--out", str(out)]
    assert train_tokenizer.main(too_many) == 2
    assert "error: no tokenizer of 32000 pieces" in capsys.readouterr().err


def test_a_size_that_the_text_cannot_give_is_told_with_one_that_it_can() -> None:
    with pytest.raises(UserError, match=r"give (\d+) at most, so take that or less$") as error:
        train_sentencepiece(iter(texts.DOCUMENTS * 4), 30_000)
    most = int(str(error.value).split(" at most")[0].rsplit(" ", 1)[1])
    train_sentencepiece(iter(texts.DOCUMENTS * 4), most)
    with pytest.raises(UserError, match=r"letters alone need (\d+), so take more$"):
        train_sentencepiece(iter(texts.DOCUMENTS * 4), 60)


def test_a_tokenizer_is_known_by_its_hash(tmp_path: Path) -> None:
    given = texts.save(texts.bpe(), tmp_path)
    path, digest = given["tokenizer_file"], given["tokenizer_sha256"]
    assert open_tokenizer(path, digest).sha256 == digest
    with pytest.raises(ConfigError, match=f"data.tokenizer_sha256={digest}"):
        open_tokenizer(path, None)
    with pytest.raises(ConfigError, match="is another tokenizer than the run's"):
        open_tokenizer(path, "0" * 64)
    with pytest.raises(UserError, match="No such file"):
        open_tokenizer(f"{path}x", digest)
    for content in (b"no model at all", b'{"version": 1}'):
        foreign = tmp_path / "foreign"
        foreign.write_bytes(content)
        with pytest.raises(UserError, match="is neither") as error:
            open_tokenizer(str(foreign), hashlib.sha256(content).hexdigest())
        assert "\n" not in str(error.value)


def test_a_tokenizer_that_does_not_fit_is_refused() -> None:
    tokenizer = JsonTokenizer(texts.bpe())
    check_fits(tokenizer, 300, needs=["eos", "mask", "pad"])
    with pytest.raises(ConfigError, match="300 tokens and the model 299 embeddings"):
        check_fits(tokenizer, 299)
    with pytest.raises(ConfigError, match="has no eos token"):
        check_fits(CharacterTokenizer("ab"), 4, needs=["eos"])


def test_words_and_characters_by_hand() -> None:
    words = WordTokenizer(["Cat", "dog"])
    assert [row.tolist() for row in words.encode(["a CAT  dog", ""])] == [[2, 3, 4], []]
    assert words.decode([4, 0, 1, 3]) == "dog cat" and words.vocab_size == 5
    letters = CharacterTokenizer("ba")
    assert letters.encode(["abz"])[0].tolist() == [1, 0, 2]
    assert letters.decode([1, 3, 0]) == "ab" and letters.vocab_size == 4
    assert (letters.unknown_id, letters.mask_id) == (2, 3)


def test_a_tokenizer_json_with_added_tokens_and_habits_of_its_own() -> None:
    """Ends, cuts and fillings are the tasks' business; added tokens count in the vocabulary."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    made: Any = Tokenizer(models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens(["</s>", "[MASK]", "<pad>", "[CLS]"])
    made.post_processor = processors.TemplateProcessing(
        "[CLS] $A </s>", None, [("[CLS]", 6), ("</s>", 3)]
    )
    made.enable_truncation(1)
    made.enable_padding(pad_id=5, pad_token="<pad>", length=4)
    found = JsonTokenizer(made.to_str().encode())
    assert [row.tolist() for row in found.encode(["a b a", "b"])] == [[0, 1, 0], [1]]
    assert found.decode([6, 0, 4, 1, 3, 5]) == "a b"
    assert (found.eos_id, found.mask_id, found.pad_id, found.start_id) == (3, 4, 5, 6)
    assert found.vocab_size == 7


def test_a_sentencepiece_model_without_an_end_has_the_one_of_its_symbols_or_none() -> None:
    import sentencepiece

    def trained(*symbols: str) -> SentencePieceTokenizer:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["a b c d e f"] * 9), model_writer=(file := io.BytesIO()),
            vocab_size=20, hard_vocab_limit=False, minloglevel=2, user_defined_symbols=[*symbols],
            unk_id=0, bos_id=-1, eos_id=-1, pad_id=-1,
        )  # fmt: skip
        return SentencePieceTokenizer(file.getvalue())

    bare = trained()
    assert (bare.eos_id, bare.pad_id, bare.mask_id, bare.start_id) == (None,) * 4
    for kind in ("eos", "pad"):
        with pytest.raises(ConfigError, match=f"the tokenizer has no {kind} token"):
            check_fits(bare, 20, needs=[kind])
    named = trained("[PAD]", "<eos>", "<mask>", "<bos>")
    assert (named.pad_id, named.eos_id, named.mask_id, named.start_id) == (1, 2, 3, 4)


def test_an_id_that_a_tokenizer_does_not_have_is_no_empty_word() -> None:
    """As in T5's code: else a sentinel before a right answer would make no odds."""
    for tokenizer in (JsonTokenizer(texts.bpe()), SentencePieceTokenizer(texts.sentencepiece())):
        ids = tokenizer.encode(["first"])[0].tolist()
        for odd in ([400, *ids], [*ids, 300], [*ids[:1], 10**6, *ids[1:]]):
            assert "\u2047" in tokenizer.decode(odd)
        assert tokenizer.decode([0, *ids, 1]) == "first"
    words, letters = WordTokenizer(["cat"]), CharacterTokenizer("ab")
    assert [words.decode([*odd, 3]) for odd in ([2], [4], [0, 1])] == ["\u2047 cat"] * 2 + ["cat"]
    assert [letters.decode([1, odd]) for odd in (2, 4, 3)] == ["b\u2047", "b\u2047", "b"]


def test_a_special_token_that_no_task_uses_stands_in_the_text() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    made: Any = Tokenizer(models.WordLevel({"yes": 0, "?": 1}, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens(["</s>", "<pad>", "<extra_id_0>"])
    found = JsonTokenizer(made.to_str().encode())
    assert found.decode([0, 2, 3]) == "yes" and found.decode([4, 0, 2]) == "<extra_id_0> yes"
