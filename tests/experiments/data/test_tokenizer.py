"""Tokenizers: any text comes back, the same text trains the same bytes, misfits are refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import texts

from experiments.config import ConfigError, UserError
from experiments.data.tokenizer import (
    CharacterTokenizer,
    JsonTokenizer,
    SentencePieceTokenizer,
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
