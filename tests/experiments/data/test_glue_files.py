"""GLUE: parquet and TSV read alike, hidden labels are refused, the metrics are T5's."""

from __future__ import annotations

from pathlib import Path

import pytest
import texts

from experiments.config import UserError
from experiments.data import glue_files as glue_files_module
from experiments.data.glue_answers import similarity
from experiments.data.glue_files import GlueFiles, answer_text, check_answers, input_text
from experiments.data.glue_paths import TASKS, check_glue
from experiments.data.locate import DataMissing
from experiments.data.tokenizer import open_tokenizer
from experiments.evaluations import glue

LABELS = {"stsb": ["2.7", "0.0", "5.0", "3.1"]}
HEADERS = {  # columns of the original files, the ones that are read in their true places
    "sst2": "sentence\tlabel",
    "mrpc": "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String",
    "qqp": "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
    "stsb": "index\tgenre\tsentence1\tsentence2\tscore",
    "mnli": "index\tsentence1\tsentence2\tlabel1\tgold_label",
    "qnli": "index\tquestion\tsentence\tlabel",
    "rte": "index\tsentence1\tsentence2\tlabel",
}


def examples(task: str) -> list[tuple[list[str], str]]:
    """Four sentences or pairs, and labels as numbers."""
    columns = TASKS[task].columns
    labels = LABELS.get(task, ["0", "1", "1", "0"])
    return [([f'{c} "{n}' for c in columns], label) for n, label in enumerate(labels)]


def write_parquet(root: Path, task: str, split: str, labels: list[str] | None = None) -> None:
    import pyarrow
    import pyarrow.parquet

    rows = examples(task)
    kind = float if task == "stsb" else int
    table = {c: [row[0][i] for row in rows] for i, c in enumerate(TASKS[task].columns)}
    table["label"] = [kind(label) for label in (labels or [label for _, label in rows])]
    (root / task).mkdir(parents=True, exist_ok=True)
    path = root / task / f"{split}-00000-of-00001.parquet"
    pyarrow.parquet.write_table(pyarrow.table(table), path)


def write_tsv(root: Path, task: str, split: str) -> Path:
    facts = TASKS[task]
    lines = []
    for sentences, label in examples(task):
        value = label if task == "stsb" else glue.LABELS[task][int(label)]
        value = label if task in ("cola", "sst2", "mrpc", "qqp") else value
        known = dict(zip(facts.tsv_columns, sentences, strict=True)) | {facts.tsv_label: value}
        names = HEADERS[task].split("\t") if task in HEADERS else ["0", "1", "2", "3"]
        lines.append("\t".join(known.get(name, "-") for name in names))
    if task in HEADERS:
        lines.insert(0, HEADERS[task])
    path = root / facts.folder / (split.replace("validation", "dev") + ".tsv")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def glue_files(tmp_path: Path, root: Path, **settings: object) -> GlueFiles:
    given = texts.save(texts.bpe(), tmp_path)
    return GlueFiles("glue", str(root), **given, cache_dir=str(tmp_path / "cache"), **settings)  # type: ignore[arg-type]


def decoded(source: GlueFiles) -> list[tuple[str, str]]:
    decode = source.tokenizer.decode
    pairs = [source.train.pair(n) for n in range(len(source.train))]
    return [(decode(one.tolist()), decode(two.tolist())) for one, two in pairs]


@pytest.mark.filterwarnings("ignore:GLUE")
def test_parquet_and_tsv_give_the_same_pairs(tmp_path: Path) -> None:
    for task, facts in TASKS.items():
        for split in facts.sizes:
            write_parquet(tmp_path / "hub", task, split)
            write_tsv(tmp_path / "tsv", task, split)
    hub, tsv = (glue_files(tmp_path, tmp_path / kind) for kind in ("hub", "tsv"))
    assert decoded(hub) == decoded(tsv)
    assert len(hub.train) == 4 * 8
    pairs = dict(decoded(hub))
    assert pairs['mnli hypothesis: hypothesis "0 premise: premise "0'] == "entailment"
    assert pairs['qqp question1: question1 "1 question2: question2 "1'] == "duplicate"
    assert pairs['stsb sentence1: sentence1 "0 sentence2: sentence2 "0'] == "2.8"
    assert pairs['cola sentence: sentence "3'] == "unacceptable"
    exams = [exam.task for exam in hub.exams]
    assert exams == [*list(TASKS)[:5], "mnli_m", "mnli_mm", "qnli", "rte"]
    end = hub.tokenizer.eos_id
    for rows in (hub.train, *(exam.pairs for exam in hub.exams)):
        texts_of = [text.tolist() for n in range(len(rows)) for text in rows.pair(n)]
        assert all(text.index(end) == len(text) - 1 for text in texts_of), "one end, the last"


@pytest.mark.filterwarnings("ignore:GLUE")
def test_hidden_labels_cut_and_foreign_files_are_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path, "rte", "train", ["-1"] * 4)
    write_parquet(tmp_path, "rte", "validation")
    with pytest.raises(UserError, match="example 1: its label is hidden"):
        glue_files(tmp_path, tmp_path, tasks=["rte"])
    write_tsv(tmp_path, "qnli", "validation")
    path = write_tsv(tmp_path, "qnli", "train")
    path.write_text(path.read_text()[:-15])
    with pytest.raises(UserError, match="is cut: its last line has too few columns"):
        glue_files(tmp_path, tmp_path, tasks=["qnli"])
    path.write_text("index\tquestion\tsentence\n0\ta\tb\n")  # as the test sets are
    with pytest.raises(UserError, match="no column 'label'"):
        glue_files(tmp_path, tmp_path, tasks=["qnli"])
    good = write_tsv(tmp_path, "qnli", "train").read_bytes()
    path.write_bytes(good + b"9\t\xff\tb\tentailment\n")  # the rows before it are not enough
    with pytest.raises(UserError, match=r"train\.tsv is damaged .*: get it again"):
        glue_files(tmp_path, tmp_path, tasks=["qnli"])
    with pytest.raises(UserError, match="'7' is none of the labels"):
        answer_text("rte", "7", "here")
    with pytest.raises(DataMissing, match=r"neither cola/train-\*\.parquet nor CoLA/train\.tsv"):
        check_glue({"root": str(tmp_path)}, "t5_proxy")


def test_only_tabs_and_ends_of_lines_mean_something(tmp_path: Path) -> None:
    path = tmp_path / "dev.tsv"
    rows = ['"one', "two\rthree", 'a ""b"" \0', "x" * 150_000]
    lines = [f"{row}\t{number % 2}" for number, row in enumerate(rows)]
    text = "\r\n".join(["sentence\tlabel", *lines[:2], "", "cut", *lines[2:], "", ""])
    path.write_bytes(text.encode())
    with pytest.warns(UserWarning, match="1 lines are left out: too few columns"):
        found = [text for text, _ in glue_files_module._read("sst2", "validation", path)]
    assert found[::2] == [f"sst2 sentence: {row}" for row in rows]
    assert found[1::2] == ["negative", "positive"] * 2


@pytest.mark.filterwarnings("ignore:GLUE")
def test_marks_missing_sentences_and_files_without_examples(tmp_path: Path) -> None:
    for split in ("train", "validation"):  # MRPC's files begin with a mark of byte order
        path = write_tsv(tmp_path, "mrpc", split)
        path.write_text(path.read_text(), encoding="utf-8-sig")
        write_parquet(tmp_path, "cola", split)
        path = write_tsv(tmp_path, "rte", split)
    assert len(glue_files(tmp_path, tmp_path, tasks=["mrpc"]).train) == 4
    path.write_text(path.read_text().splitlines()[0] + "\n")
    with pytest.raises(UserError, match="GLUE, rte, validation: the file has no example"):
        glue_files(tmp_path, tmp_path, tasks=["rte"])
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"sentence": ["a", None], "label": [0, 1]})
    pyarrow.parquet.write_table(table, tmp_path / "cola" / "train-00000-of-00001.parquet")
    with pytest.raises(UserError, match="example 2: its sentence is missing"):
        glue_files(tmp_path, tmp_path, tasks=["cola"])


def test_a_copy_of_another_size_is_said(tmp_path: Path) -> None:
    for split in TASKS["cola"].sizes:
        write_parquet(tmp_path, "cola", split)
    with pytest.warns(UserWarning, match="4 examples, 8,551 in the original"):
        glue_files(tmp_path, tmp_path, tasks=["cola"])


def test_a_tokenizer_that_changes_an_answer_is_refused(tmp_path: Path) -> None:
    """Else the true answers would be no labels, and nonsense would be as right as they."""
    truth, nonsense = ["not _ entailment", "entailment"], ["", "entailment"]
    assert glue.scores("rte", truth, nonsense) == {"default": 100.0}  # what would come of it
    tokenizers = pytest.importorskip("tokenizers")
    trained = tokenizers.BertWordPieceTokenizer()
    words = [word for labels in glue.LABELS.values() for word in labels]
    trained.train_from_iterator(words * 5, vocab_size=200)
    given = texts.save(trained.to_str().encode(), tmp_path)
    with pytest.raises(UserError, match="'not_entailment' of rte comes back as 'not _ entailment'"):
        GlueFiles("glue", str(tmp_path), **given, tasks=["sst2", "rte"])
    opened = open_tokenizer(given["tokenizer_file"], given["tokenizer_sha256"])
    check_answers(opened, ["cola", "sst2", "mnli"])  # these come back
    with pytest.raises(UserError, match=r"the answer '0\.0' of stsb comes back as"):
        check_answers(opened, ["stsb"])
    for content in (texts.bpe(), texts.sentencepiece()):
        given = texts.save(content, tmp_path)
        check_answers(open_tokenizer(given["tokenizer_file"], given["tokenizer_sha256"]), TASKS)


def test_the_first_sentence_of_an_mnli_file_is_the_premise(tmp_path: Path) -> None:
    (path := tmp_path / "dev.tsv").write_text(f"{HEADERS['mnli']}\n0\tpremise\tguess\t-\tneutral\n")
    assert list(glue_files_module._tsv("mnli", path)) == [(["guess", "premise"], "neutral")]
    assert TASKS["mnli"].columns == ("hypothesis", "premise")


def test_inputs_are_those_of_t5() -> None:
    assert input_text("cola", ["John made Bill master."]) == "cola sentence: John made Bill master."
    # round to the nearest fifth, halves to the even one, as TensorFlow
    assert [similarity(s) for s in (2.7, 2.5, 3.25, 0.0, 5.0)] == [
        "2.8",
        "2.4",
        "3.2",
        "0.0",
        "5.0",
    ]


# --- metrics; the examples of T5's own tests (t5/evaluation/metrics_test.py) ----------------------


def test_metrics_agree_with_the_examples_of_t5() -> None:
    assert glue.f1([0, 1, 1, 0], [0, 1, 2, 2]) == pytest.approx(50.0)
    assert glue.matthews([0, 0, 2, 1], [0, 1, 2, 1]) == pytest.approx(70.0, abs=1e-6)
    both = glue.scores("stsb", ["0", "2", "1"], ["0", "1", "2"])
    assert both["spearman"] == pytest.approx(50.0)
    assert glue.scores("stsb", ["0", "2"], ["0", "1"])["pearson"] == pytest.approx(100.0)
    for constant in (["1", "1", "1"], ["0", "2", "1"]), (["0", "2", "1"], ["1", "1", "1"]):
        assert glue.scores("stsb", *constant) == {"pearson": 0.0, "spearman": 0.0}
    labels = glue.LABELS["mnli"]
    truth, given = [labels[n] for n in (0, 0, 2, 1)], [labels[n] for n in (0, 1, 2, 1)]
    assert glue.scores("mnli", truth, given) == {"default": 75.0}


def test_metrics_agree_with_scikit_learn_and_scipy() -> None:
    import numpy as np
    from scipy import stats
    from sklearn import metrics

    random = np.random.RandomState(0)
    truth, given = random.randint(0, 2, 200), random.randint(0, 2, 200)
    given[::3] = truth[::3]
    lists = truth.tolist(), given.tolist()
    assert glue.matthews(*lists) == pytest.approx(100 * metrics.matthews_corrcoef(truth, given))
    assert glue.f1(*lists) == pytest.approx(100 * metrics.f1_score(truth, given))
    with_invalid = np.where(random.rand(200) < 0.1, -1, given)
    expected = 100 * metrics.matthews_corrcoef(truth, with_invalid)
    assert glue.matthews(lists[0], with_invalid.tolist()) == pytest.approx(expected)
    scores = [f"{x:.1f}" for x in random.rand(50) * 5], [f"{x:.1f}" for x in random.rand(50) * 5]
    floats = [[float(x) for x in part] for part in scores]
    found = glue.scores("stsb", *scores)
    assert found["pearson"] == pytest.approx(100 * stats.pearsonr(*floats)[0])
    assert found["spearman"] == pytest.approx(100 * stats.spearmanr(*floats)[0])


@pytest.mark.parametrize("task", glue.LABELS)
def test_an_invalid_answer_is_worse_than_none_of_them(task: str) -> None:
    labels = glue.LABELS[task] or ("0.0", "2.0", "5.0")
    truth = [labels[n % len(labels)] for n in range(12)]
    right = glue.scores(task, truth, truth)
    assert list(right.values()) == pytest.approx([100.0] * len(right))
    two = {"mrpc": ["f1", "acc"], "qqp": ["f1", "acc"], "stsb": ["pearson", "spearman"]}
    assert list(right) == two.get(task, ["default"])
    spoiled = glue.scores(task, truth, ["nonsense", *truth[1:]])
    assert all(value < 99.9 for value in spoiled.values())
    nothing = glue.scores(task, truth, ["nan"] * 12)
    assert all(value <= 0.0 for value in nothing.values())


def test_of_other_exams_an_answer_is_valid_where_it_is_right_for_some_example() -> None:
    found = glue.accuracy(["a", "b", "b", "a"], ["a", "a", "x", ""])
    assert found == {"accuracy": 25.0, "valid": 50.0}
