"""The walk of a pair of words against a float64 computation of its own and the kernels' loss; output vectors kept, read and written."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba")

from vitrail.errors import UsageError
from vitrail.native.arrays import aligned_zeros, padded
from vitrail.vectors import WordVectors, load_vectors, save_vectors
from vitrail.vectors.explaining.counting import near_counts
from vitrail.vectors.explaining.explain import explain_pair
from vitrail.vectors.explaining.text import MISSING, walk_text
from vitrail.vectors.explaining.walk import Walk
from vitrail.vectors.huffman import fasttext_tree
from vitrail.vectors.ngrams import bucket_of, ngrams_of
from vitrail.vectors.steps.draws import word_table
from vitrail.vectors.steps.glove import begin_glove, glove_pass_block
from vitrail.vectors.steps.kernels import LONGEST, Rows, Workspace, learn
from vitrail.vectors.steps.tree import huffman_paths
from vitrail.vectors.training.config import NgramsConfig, VectorsConfig
from vitrail.vectors.training.cooccurrence import Counting, Pairs, count_pairs
from vitrail.vectors.training.train import WORK, Progress, train_vectors
from vitrail.vectors.word_vectors import Outputs

Doubles = np.ndarray[Any, np.dtype[np.float64]]
METHODS: dict[str, dict[str, Any]] = {
    "skip-gram": {},
    "cbow": {"architecture": "cbow", "negatives": 3},
    "skip-gram-tree": {"negatives": 0},
    "cbow-tree": {"architecture": "cbow", "negatives": 0},
    "fasttext": {"method": "fasttext", "ngrams": NgramsConfig(buckets=400)},
    "fasttext-cbow-tree": {"method": "fasttext", "architecture": "cbow", "negatives": 0, "ngrams": NgramsConfig(buckets=400)},
    "glove": {"method": "glove", "epochs": 8},
}


def write_text(path: Path, *, lines: int) -> Path:
    """Sentences of two groups of words, in Latin letters."""
    draw = np.random.default_rng(5)
    groups = (("katze", "hund", "pferd", "vogel"), ("läuft", "frisst", "schläft")), (("rot", "blau", "grün"), ("farbe", "malt", "pinsel"))
    chosen = [groups[int(draw.integers(2))] for _ in range(lines)]
    path.write_text("".join(" ".join(str(draw.choice(part)) for part in (*pair, *pair)) + "\n" for pair in chosen), encoding="utf-8")
    return path


def config(text: Path, **changes: Any) -> VectorsConfig:
    settings: dict[str, Any] = {"dimension": 12, "epochs": 3, "threads": 1, "sample": 0.0, "rate": 0.05}
    return VectorsConfig(text=(text,), **{**settings, **changes})


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A training of each method that kept its output vectors."""
    folder = tmp_path_factory.mktemp("explained")
    text = write_text(folder / "text", lines=400)
    for name, changes in METHODS.items():
        train_vectors(config(text, keep_outputs=True, **changes), folder / name)
    return {"text": text} | {name: folder / name for name in METHODS}


def loaded(folders: dict[str, Path], name: str) -> WordVectors:
    return load_vectors(folders[name], outputs=True)


def input_rows(vectors: WordVectors, words: tuple[str, ...]) -> Doubles:
    """The rows that training has the mean of, from the definition."""
    rows: list[Doubles] = []
    for word in words:
        own, table = vectors.matrix[vectors.index[word]].astype(np.float64), vectors.ngrams
        grams = [] if table is None else [table.vectors[bucket_of(g, table.buckets)] for g in ngrams_of(word, table.minn, table.maxn)]
        rows += [own * (len(grams) + 1) - np.sum(grams, axis=0, dtype=np.float64) if grams else own]
        rows += [gram.astype(np.float64) for gram in grams]
    return np.stack(rows)


def kernel_loss(rows: Doubles, outputs: Doubles, labels: list[int]) -> float:
    """What the compiled step says its loss is, for targets 0, 1, ... of some outputs."""
    width = padded(rows.shape[1])
    tables = [aligned_zeros(len(part) * width) for part in (rows, outputs)]
    for table, part in zip(tables, (rows, outputs), strict=True):
        table.reshape(-1, width)[:, : part.shape[1]] = part
    most = padded(len(labels))
    work = Workspace(
        np.ones(1, np.uint64),
        np.zeros(LONGEST, np.int32),
        np.arange(len(rows), dtype=np.int32),
        np.arange(most, dtype=np.int32),
        aligned_zeros(most),
        np.zeros(1, np.int32),
        aligned_zeros(most),
    )
    work.labels[: len(labels)] = labels
    return learn(Rows(tables[0], tables[1], (0,) * (width // 16)), work, len(rows), 0, len(labels), 0.01, True)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "glove"])
def test_the_walk_is_the_loss_of_the_definition_and_of_the_kernels(folders: dict[str, Path], name: str) -> None:
    vectors = loaded(folders, name)
    assert vectors.outputs is not None and vectors.counts is not None
    around = ("malt", "rot") if "cbow" in name else ()
    walk = explain_pair(vectors, "hund", "läuft", around=around)
    rows = input_rows(vectors, ("hund", *around))
    hidden = rows.mean(axis=0)
    assert walk.hidden is not None and walk.hidden.first == pytest.approx(hidden[:8]) and len(walk.rows) == len(rows)
    assert [row.length for row in walk.rows] == pytest.approx(np.linalg.norm(rows, axis=1))
    outputs, index = vectors.outputs.vectors.astype(np.float64), vectors.index["läuft"]
    if "tree" in name:
        paths, turns = huffman_paths(vectors.counts)
        place = slice(int(paths.starts[index]), int(paths.starts[index + 1]))
        nodes, labels = paths.rows[place].tolist(), turns[place].astype(int).tolist()
        assert [(one.row, one.label) for one in walk.targets] == list(zip(nodes, labels, strict=True))
        chances = [1 / (1 + np.exp(-hidden @ outputs[node] * (1 if label else -1))) for node, label in zip(nodes, labels, strict=True)]
        assert walk.probability == pytest.approx(np.prod(chances)) and walk.loss == pytest.approx(-np.log(chances).sum())
        assert kernel_loss(rows, outputs[nodes], labels) == pytest.approx(walk.loss, rel=1e-5)
        every = [explain_pair(vectors, "hund", other, around=around).probability or 0.0 for other in vectors.words]
        assert sum(every) == pytest.approx(1)
        return
    assert walk.score is not None and walk.score.value == pytest.approx(hidden @ outputs[index])
    assert sum(one * other for one, other in walk.score.terms) + walk.score.rest == pytest.approx(walk.score.value)
    assert sum(row.share or 0.0 for row in walk.rows) == pytest.approx(walk.score.value)
    weights = vectors.counts.astype(np.float64) ** 0.75
    sigmoids = 1 / (1 + np.exp(-outputs @ hidden))
    drawn = sum(weights[n] / weights.sum() * -np.log(1 - sigmoids[n]) for n in range(len(vectors)) if n != index)
    assert walk.expected == pytest.approx(walk.negatives * drawn)
    assert walk.loss == pytest.approx(-np.log(sigmoids[index]) + walk.negatives * drawn)
    true, *others = walk.targets
    assert (true.name, true.label, true.pull) == ("läuft", 1, pytest.approx(1 - sigmoids[index]))
    order = [vectors.words[n] for n in np.argsort(-weights, kind="stable") if n != index]
    assert [one.name for one in others] == order[: len(others)] and len(others) == 6
    chosen = [vectors.index[one.name or ""] for one in walk.targets]
    assert kernel_loss(rows, outputs[chosen], [1, *[0] * 6]) == pytest.approx(sum(one.loss for one in walk.targets), rel=1e-5)
    table, size = word_table(weights), len(vectors)
    share = table.keep.astype(np.float64)
    np.add.at(share, table.other, 2.0**32 - table.keep)
    assert [one.drawn for one in walk.targets] == pytest.approx(share[chosen] / share.sum(), rel=1e-6), "as the kernels draw"
    assert size == len(vectors.outputs.vectors)


def test_the_walk_of_glove_is_the_loss_of_the_definition_and_of_the_kernel(folders: dict[str, Path], tmp_path: Path) -> None:
    vectors = loaded(folders, "glove")
    assert vectors.outputs is not None and vectors.outputs.biases is not None
    said: list[str] = []
    pairs = [("hund", "läuft"), ("läuft", "hund"), ("katze", "katze"), ("hund", "blau")]
    found = near_counts([folders["text"]], vectors, pairs, say=said.append)
    assert found.x[0] == found.x[1] > 0 and found.x[3] == 0 and found.words == vectors.facts["words of text"]
    numbers = [
        number
        for line in folders["text"].read_text(encoding="utf-8").splitlines()
        for number in [*(vectors.index[word] for word in line.split()), -1]
    ]
    counted = count_pairs(np.asarray(numbers, np.int32), folder=tmp_path / "pairs", vocabulary=len(vectors), counting=Counting(window=10))
    kernels = {
        (int(word), int(context)): float(x)
        for block in map(counted.block, range(counted.blocks))
        for word, context, x in zip(*block, strict=True)
    }
    for (word, other), x in zip(pairs, found.x, strict=True):
        assert kernels.get((vectors.index[word], vectors.index[other]), 0.0) == pytest.approx(x, rel=1e-6)
    walk = explain_pair(vectors, "hund", "läuft", x=found.x[0])
    one, two = vectors.index["hund"], vectors.index["läuft"]
    u = vectors.outputs.vectors[two].astype(np.float64)
    w, b, c = vectors.matrix[one] - vectors.outputs.vectors[one].astype(np.float64), *map(float, vectors.outputs.biases[[one, two], [0, 1]])
    error = w @ u + b + c - np.log(found.x[0])
    loss = min(1.0, (found.x[0] / 10) ** 0.75) * error**2
    assert walk.glove is not None and walk.glove.error == pytest.approx(error) and walk.loss == pytest.approx(loss)
    state = begin_glove(2, dimension=12, seed=1, x_max=10.0)
    arrays = state.arrays()
    arrays["words"][0, :12], arrays["words"][0, 12] = w, b
    arrays["contexts"][1, :12], arrays["contexts"][1, 13] = u, c
    pair = Pairs(np.array([0], np.int32), np.array([1], np.int32), np.array([found.x[0]], np.float32))
    assert glove_pass_block(pair, state, 0.01)[0] == pytest.approx(loss, rel=1e-4)
    never = explain_pair(vectors, "hund", "blau", x=0.0)
    assert never.glove is not None and never.loss == 0 and never.glove.error is None and "nothing from this one" in walk_text(never)
    unknown = explain_pair(vectors, "hund", "läuft")
    assert unknown.missing == ("text",) and unknown.loss is None and unknown.glove is not None
    assert unknown.glove.predicted == walk.glove.predicted and MISSING["text"] in walk_text(unknown)


def test_pairs_are_counted_in_a_text_as_the_training_reads_it(tmp_path: Path) -> None:
    """Scripts, case, words out of the vocabulary between two others, lines that end, phrases."""
    text = tmp_path / "text"
    text.write_text("Собака бежит 犬 走 Собака\nсобака бежит rare 犬\nबिल्ली सोती है بيت كبير\nबिल्ली है\n" * 6, encoding="utf-8")
    settings = config(text, method="glove", tokens={"min_count": 6}, keep_outputs=True, window=3)
    vectors = train_vectors(settings, tmp_path / "v")
    assert "rare" in vectors and {"собака", "बिल्ली", "بيت"} <= set(vectors.words)
    without = replace(vectors, words=["-" if word == "rare" else word for word in vectors.words])
    pairs = [("собака", "собака"), ("собака", "бежит"), ("бежит", "犬"), ("बिल्ली", "है")]
    assert near_counts([text], vectors, pairs, say=print).x == pytest.approx([0, 6 * (2 + 1 / 3), 6 * 1.5, 6 * 1.5], rel=1e-8)
    assert near_counts([text], without, pairs, say=print).x == pytest.approx([0, 6 * (2 + 1 / 3), 12, 6 * 1.5], rel=1e-8)
    joined = config(text, method="glove", tokens={"min_count": 1, "phrases": 1, "phrase_threshold": 0.5}, keep_outputs=True)
    phrases = train_vectors(joined, tmp_path / "p")
    both = next(word for word in phrases.words if "_" in word)
    said: list[str] = []
    found = near_counts([text], phrases, [(both, one) for one in phrases.words], say=said.append)
    assert max(found.x) > 0 and found.words == phrases.facts["words of text"] and said[0].startswith("phrases, pass 1")
    with pytest.raises(UsageError, match="GloVe"):
        near_counts([text], WordVectors(["a"], np.ones((1, 2), np.float32)), [("a", "a")], say=print)


def test_output_vectors_are_kept_where_that_was_asked_for_and_change_nothing_else(folders: dict[str, Path], tmp_path: Path) -> None:
    for name in ("skip-gram", "fasttext", "glove"):
        plain = train_vectors(config(folders["text"], **METHODS[name]), tmp_path / name)
        kept = loaded(folders, name)
        assert plain.matrix.tobytes() == kept.matrix.tobytes() and kept.outputs is not None and kept.outputs.vectors.any()
        assert (kept.outputs.biases is not None) == (name == "glove")
        assert load_vectors(tmp_path / name, outputs=True).outputs is None
        assert load_vectors(folders[name]).outputs is None, "they take no memory where nobody asks for them"
        assert load_vectors(folders[name], limit=3, outputs=True).outputs is None
        save_vectors(kept, tmp_path / f"{name}-again")
        again = load_vectors(tmp_path / f"{name}-again", outputs=True).outputs
        assert again is not None and again.vectors.tobytes() == kept.outputs.vectors.tobytes()
        assert (again.biases is None) == (kept.outputs.biases is None)
        if again.biases is not None and kept.outputs.biases is not None:
            assert again.biases.tobytes() == kept.outputs.biases.tobytes()
        said: list[str] = []
        save_vectors(kept, tmp_path / f"{name}.txt", to="word2vec-text", say=said.append)
        assert any("no output vectors" in line for line in said)
        assert kept.first(3).outputs is None


def test_a_training_begun_without_output_vectors_can_still_keep_them(folders: dict[str, Path], tmp_path: Path) -> None:
    whole = loaded(folders, "skip-gram").outputs
    settings = config(folders["text"])

    def fail(progress: Progress) -> None:
        raise ZeroDivisionError(progress)

    with pytest.raises(ZeroDivisionError):
        train_vectors(settings, tmp_path / "v", report=fail)
    assert (tmp_path / f"v{WORK}").is_dir()
    train_vectors(config(folders["text"], keep_outputs=True), tmp_path / "v")
    found = load_vectors(tmp_path / "v", outputs=True).outputs
    assert found is not None and whole is not None and found.vectors.tobytes() == whole.vectors.tobytes()


@pytest.mark.parametrize(("loss", "kind"), [("ns", "negatives"), ("hs", "tree")])
def test_a_model_of_the_fasttext_program_has_its_own_output_vectors(folders: dict[str, Path], tmp_path: Path, loss: str, kind: str) -> None:
    fasttext = pytest.importorskip("fasttext")
    model = fasttext.train_unsupervised(str(folders["text"]), dim=8, epoch=2, minCount=1, bucket=300, thread=1, loss=loss, neg=4, verbose=0)
    model.save_model(str(tmp_path / "v.bin"))
    vectors = load_vectors(tmp_path / "v.bin", outputs=True)
    assert vectors.outputs is not None and np.array_equal(vectors.outputs.vectors, model.get_output_matrix())
    assert load_vectors(tmp_path / "v.bin").outputs is None and load_vectors(tmp_path / "v.bin", limit=2, outputs=True).outputs is None
    walk = explain_pair(vectors, "hund", "läuft")
    assert walk.kind == kind and walk.missing == () and walk.hidden is not None
    assert walk.hidden.first == pytest.approx(model.get_word_vector("hund"), abs=1e-6)
    if kind == "negatives":
        counts = np.sqrt(np.asarray(model.get_words(include_freq=True)[1], np.float64))  # fastText draws by the square root
        assert [one.drawn for one in walk.targets[1:3]] == pytest.approx(np.sort(counts / counts.sum())[::-1][:2], rel=1e-9)
        assert walk.negatives == 4 and walk.score is not None
        output = model.get_output_matrix()[vectors.index["läuft"]].astype(np.float64)
        assert walk.score.value == pytest.approx(model.get_word_vector("hund").astype(np.float64) @ output, abs=1e-6)
    else:
        assert sum(explain_pair(vectors, "hund", other).probability or 0.0 for other in vectors.words) == pytest.approx(1)
    save_vectors(vectors, tmp_path / "folder")
    folder = load_vectors(tmp_path / "folder", outputs=True)
    assert explain_pair(folder, "hund", "läuft") == walk
    save_vectors(folder, tmp_path / "again.bin", to="fasttext-bin")
    again = fasttext.load_model(str(tmp_path / "again.bin")).get_output_matrix()
    assert np.array_equal(again, model.get_output_matrix() if kind == "negatives" else np.zeros_like(again))


def test_the_tree_of_the_fasttext_program_gives_its_probabilities(tmp_path: Path) -> None:
    """A classifier by hierarchical softmax says what its tree makes of each label."""
    fasttext = pytest.importorskip("fasttext")
    draw = np.random.default_rng(1)
    labels = [f"__label__{name}" for name in ("a", "b", "c", "d", "e", "f", "g")]
    lines = [
        f"{label} {' '.join(draw.choice(list('pqrstuv'), 4))} {label[-1] * 2}" for n, label in enumerate(labels) for _ in range(3 + 5 * n)
    ]
    (tmp_path / "text").write_text("\n".join(lines) + "\n")
    model = fasttext.train_supervised(str(tmp_path / "text"), dim=6, epoch=20, loss="hs", thread=1, bucket=0, verbose=0)
    names, counts = model.get_labels(include_freq=True)
    outputs = model.get_output_matrix().astype(np.float64)
    tokens = [model.get_word_vector(word).astype(np.float64) for word in ("p", "q", "gg", "</s>")]
    hidden = np.mean(tokens, axis=0)
    tree = fasttext_tree(np.asarray(counts, np.int64))
    found = {
        name: np.prod([1 / (1 + np.exp(-hidden @ outputs[turn.node] * (1 if turn.label else -1))) for turn in tree.way(place)])
        for place, name in enumerate(names)
    }
    told = {label: chance for chance, label in model.f.predict("p q gg\n", -1, 0.0, "strict")}
    assert sum(found.values()) == pytest.approx(1) and len(told) == len(labels)
    assert [found[name] for name in told] == pytest.approx(list(told.values()), abs=2e-4)  # it adds 1e-5 before each logarithm


def plain() -> WordVectors:
    draw = np.random.default_rng(3)
    words = ["</script>", "ki'ng", '"quoted"', "بيت", "हिन्दी", "日本", "👩‍👩‍👧", "é"]
    return WordVectors(words, draw.normal(size=(len(words), 5)).astype(np.float32))


@pytest.mark.parametrize("word", plain().words)
def test_vectors_of_other_programs_show_what_there_is_and_say_what_is_missing(word: str, tmp_path: Path) -> None:
    save_vectors(plain(), tmp_path / "v.txt", to="word2vec-text")
    vectors = load_vectors(tmp_path / "v.txt", outputs=True)
    walk = explain_pair(vectors, word, "日本")
    one, two = (vectors.vector(name).astype(np.float64) for name in (word, "日本"))
    assert walk.product.value == pytest.approx(one @ two)
    assert walk.cosine == pytest.approx(one @ two / np.linalg.norm(one) / np.linalg.norm(two))
    assert walk.missing == ("method",) and walk.loss is None and walk.targets == ()
    assert word in walk_text(walk) and MISSING["method"] in walk_text(walk)
    assert Walk.model_validate_json(walk.model_dump_json()) == walk


def test_what_cannot_be_explained_is_refused_or_said(folders: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match="a word of the vocabulary"):
        explain_pair(plain(), "日本", "nobody")
    with pytest.raises(UsageError, match="CBOW"):
        explain_pair(loaded(folders, "skip-gram"), "hund", "läuft", around=["rot"])
    without = replace(loaded(folders, "skip-gram"), outputs=None)
    walk = explain_pair(without, "HUND", "läuft")
    assert walk.word == "hund" and walk.missing == ("outputs",) and walk.hidden is not None and walk.loss is None
    assert MISSING["outputs"] in walk_text(walk)
    unseen = explain_pair(loaded(folders, "fasttext"), "hunde", "läuft")
    assert unseen.loss is not None and all(row.ngram for row in unseen.rows)
    other = explain_pair(loaded(folders, "fasttext"), "hund", "läufe")
    assert (
        other.missing == ("other",)
        and other.loss is None
        and other.cosine == pytest.approx(loaded(folders, "fasttext").similarity("hund", "läufe"))
    )
    zeros = WordVectors(["a", "b"], np.zeros((2, 3), np.float32), outputs=Outputs(np.zeros((2, 3), np.float32)))
    assert explain_pair(zeros, "a", "b").cosine == 0
    large = replace(loaded(folders, "skip-gram"), matrix=loaded(folders, "skip-gram").matrix * np.float32(1e4))
    assert np.isfinite(explain_pair(large, "hund", "läuft").loss or np.nan)
