"""Texts as numbers: cleaning, vocabularies, padding, batches of similar length, spelled dates."""

import json
from collections import Counter
from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_ai import data, io, nn, random
from tinygrad_ai.data import dates
from tinygrad_ai.data.text import (
    END,
    START,
    UNKNOWN,
    LengthLoader,
    PaddedSequences,
    Tokenizer,
    batches_by_length,
    clean,
    pad_sequences,
)
from tinygrad_ai.errors import DataError, DTypeError, ShapeError, ValueRangeError
from tinygrad_ai.train import Trainer

texts = st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1, max_size=5)
rows = st.lists(st.lists(st.integers(1, 99), max_size=9), min_size=1, max_size=6)


# ------------------------------------------------------------------------------------- cleaning


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("A great film.<br /><br />Go!", "a great film go"),
        ('<a href="x.html">here</a> we go', "here we go"),
        ("1 < 2 and 3 > 2", "1 2 and 3 2"),
        ("rock &amp; roll &lt;b&gt; &nbsp;caf&eacute;", "rock roll b café"),
        ("Don't say 'no', it’s the boys' rock’n’roll", "don't say no it's the boys rock'n'roll"),
        ("cafe\u0301 ﬁlm ＡＢＣ naïve", "café film abc naïve"),
        ("snake_case well-known 9/10 U.S.A.", "snake case well known 9 10 u s a"),
        ("ΑΒΓ Привет 東京", "αβγ привет 東京"),
        ("\x85new\u2028line\t \n", "new line"),
        (" '' -- ... ", ""),
    ],
)
def test_clean(text, cleaned):
    assert clean(text) == cleaned


@given(st.text())
def test_what_is_clean_stays_so(text):
    cleaned = clean(text)
    assert clean(cleaned).split() == cleaned.split()
    assert "<" not in cleaned
    assert "  " not in cleaned


# ------------------------------------------------------------------------------------ tokenizer


def test_the_vocabulary_is_by_frequency_then_alphabet():
    tokenizer = Tokenizer().fit(["b a c", "B, d a!", "a"])
    assert tokenizer.tokens == ["<pad>", "<unk>", "a", "b", "c", "d"]
    assert len(tokenizer) == 6
    assert tokenizer.encode("d zebra A").tolist() == [5, UNKNOWN, 2]
    assert tokenizer.decode([5, UNKNOWN, 2, 0]) == "d <unk> a"


def test_limits_of_the_vocabulary():
    corpus = ["a a a b b b c c d"]
    assert Tokenizer(num_words=4).fit(corpus).tokens[2:] == ["a", "b"]
    assert Tokenizer(min_count=2).fit(corpus).tokens[2:] == ["a", "b", "c"]
    assert Tokenizer(num_words=6, ends=True).fit(corpus).tokens[4:] == ["a", "b"]
    assert len(Tokenizer(num_words=100).fit(corpus)) == 6


@given(texts)
def test_characters_come_back(corpus):
    for ends in (False, True):
        tokenizer = Tokenizer("char", ends=ends).fit(corpus)
        counts = Counter("".join(corpus))
        assert tokenizer.tokens[len(tokenizer.special) :] == sorted(
            counts, key=lambda c: (-counts[c], c)
        )
        for text in corpus:
            encoded = tokenizer.encode(text)
            assert encoded.dtype == np.int64
            assert len(encoded) == len(text) + 2 * ends
            padded = pad_sequences([encoded], len(encoded) + 3, "post")[0]
            assert tokenizer.decode(encoded) == tokenizer.decode(padded) == text


def test_start_and_end():
    tokenizer = Tokenizer("char", ends=True).fit(["abc"])
    assert tokenizer.encode("a").tolist() == [START, 4, END]
    assert tokenizer.decode([START, 4, 5, END, 6, 6]) == "ab"
    assert tokenizer.decode([4, UNKNOWN]) == "a\N{REPLACEMENT CHARACTER}"


def test_a_special_token_in_the_text_is_a_word_like_others():
    tokenizer = Tokenizer("char").fit(["<pad>"])
    assert tokenizer.decode(tokenizer.encode("<pad>")) == "<pad>"
    assert Tokenizer().fit(["unk pad"]).encode("<unk> pad").tolist() == [2]  # a tag, and a word


@pytest.mark.parametrize("level", ["word", "char"])
@pytest.mark.parametrize("ends", [True, False])
def test_a_model_file_can_hold_the_vocabulary(tmp_path, level, ends):
    tokenizer = Tokenizer(level, num_words=9, ends=ends).fit(["Žena, the cat\n\tand 東京"])
    io.save({"w": np.zeros(1)}, tmp_path / "m.safetensors", {"v": tokenizer.state_dict()})
    again = Tokenizer.from_state(io.read_metadata(tmp_path / "m.safetensors")["v"])
    assert again.tokens == tokenizer.tokens
    assert again.state_dict() == json.loads(json.dumps(tokenizer.state_dict()))
    text = "the cat and a dog"
    np.testing.assert_array_equal(again.encode(text), tokenizer.encode(text))


FITTED = Tokenizer("char").fit(["abc"])
STATE = FITTED.state_dict()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Tokenizer("letter"), ValueRangeError, "level 'letter' is none of word, char"),
        (lambda: Tokenizer(num_words=2), ValueRangeError, "num_words .* at least 3, not 2"),
        (lambda: Tokenizer(num_words=0), ValueRangeError, "num_words"),
        (lambda: Tokenizer(min_count=0), ValueRangeError, "min_count"),
        (lambda: Tokenizer().fit([]), ValueRangeError, "fit: there are no texts"),
        (lambda: Tokenizer().fit(["", "!"]), ValueRangeError, "there is no word in the texts"),
        (lambda: Tokenizer(min_count=2).fit(["a b"]), ValueRangeError, "no word in .* 2 times"),
        (lambda: Tokenizer().fit("a text"), DTypeError, "list of strings, not a str"),
        (lambda: Tokenizer().fit(None), DTypeError, "not a NoneType"),
        (lambda: Tokenizer().fit(["a", 3]), DTypeError, "text 1: a text must be a string, not int"),
        (lambda: Tokenizer().encode("a"), ValueRangeError, r"fit\(texts\) learns one"),
        (lambda: FITTED.encode(""), ValueRangeError, "encode: the text has no character: ''"),
        (lambda: FITTED.encode(b"a"), DTypeError, "not bytes"),
        (lambda: FITTED.encode_all("abc"), DTypeError, "list of strings"),
        (
            lambda: Tokenizer().fit(["a"]).encode_all(["a", "?!"]),
            ValueRangeError,
            r"encode_all: text 1 has no word: '\?!'",
        ),
        (lambda: FITTED.decode([2, 5]), ValueRangeError, "5 at place 1 is no token: there are 5"),
        (lambda: FITTED.decode([-1]), ValueRangeError, "-1 at place 0"),
        (lambda: FITTED.decode([1.0]), DTypeError, "whole numbers, not float64"),
        (lambda: FITTED.decode([[1]]), ShapeError, r"not the shape \(1, 1\)"),
        (lambda: clean(None), DTypeError, "clean: a text must be a string"),
        (lambda: Tokenizer.from_state({"level": "word"}), DataError, "needs level, ends, tokens"),
        (lambda: Tokenizer.from_state([]), DataError, "no Tokenizer's state"),
        (lambda: Tokenizer.from_state(STATE | {"tokens": ["a", "a"]}), DataError, "damaged"),
        (lambda: Tokenizer.from_state(STATE | {"tokens": ["a", 1]}), DataError, "damaged"),
        (lambda: Tokenizer.from_state(STATE | {"level": "x"}), DataError, "damaged"),
        (lambda: pad_sequences([]), ValueRangeError, "there are no sequences"),
        (lambda: pad_sequences([[1]], 0), ValueRangeError, "maxlen"),
        (lambda: pad_sequences([[1]], padding="left"), ValueRangeError, "'left' is none of pre"),
        (lambda: pad_sequences([[1]], truncating=1), ValueRangeError, "truncating 1 is none"),
        (lambda: pad_sequences([[1], ["a"]]), DTypeError, "sequence 1: .* whole numbers"),
        (lambda: pad_sequences([1, 2]), ShapeError, "sequence 0: a sequence has one axis"),
        (lambda: batches_by_length([], 2), ValueRangeError, "no samples"),
        (lambda: batches_by_length([1], 0), ValueRangeError, "batch_size"),
        (lambda: batches_by_length([1], 1, -1), ValueRangeError, "seed"),
        (lambda: PaddedSequences([[1]], [1, 2]), DTypeError, "not an array"),
        (lambda: PaddedSequences([[1]], np.arange(2)), ShapeError, "first dimensions differ"),
        (lambda: PaddedSequences([[1]], padding="both"), ValueRangeError, "padding 'both'"),
        (
            lambda: PaddedSequences([[1]], pad_to_multiple_of=0),
            ValueRangeError,
            "at least 1, not 0",
        ),
        (lambda: dates.pairs(40000), ValueRangeError, "there are 36,525 dates, not 40,000"),
        (lambda: dates.pairs(-1), ValueRangeError, "a count"),
        (lambda: dates.pairs(1, seed=-1), ValueRangeError, "seed"),
    ],
)
def test_what_cannot_be_is_said(call, error, message):
    with pytest.raises(error, match=message):
        call()


# -------------------------------------------------------------------------------------- padding


@given(rows, st.none() | st.integers(1, 12), *[st.sampled_from(["pre", "post"])] * 2)
def test_padding_row_by_row(sequences, maxlen, padding, truncating):
    padded, lengths = pad_sequences(
        sequences, maxlen, padding, truncating, value=-1, return_lengths=True
    )
    width = maxlen or max(map(len, sequences))
    assert padded.shape == (len(sequences), width)
    assert padded.dtype == lengths.dtype == np.int64
    for row, length, sequence in zip(padded.tolist(), lengths, sequences, strict=True):
        kept = sequence[:width] if truncating == "post" else sequence[::-1][:width][::-1]
        fill = [-1] * (width - len(kept))
        assert row == (fill + kept if padding == "pre" else kept + fill)
        assert length == len(kept)


def test_padding_of_keras_documentation():
    sequences = [[1], [2, 3], [4, 5, 6]]
    assert pad_sequences(sequences).tolist() == [[0, 0, 1], [0, 2, 3], [4, 5, 6]]
    assert pad_sequences(sequences, maxlen=2).tolist() == [[0, 1], [2, 3], [5, 6]]
    assert pad_sequences(sequences, 4, "post", value=9)[0].tolist() == [1, 9, 9, 9]


# -------------------------------------------------------------------------------------- batches


@given(st.lists(st.integers(1, 30), min_size=1, max_size=300), st.integers(1, 20), st.integers(0))
def test_batches_hold_every_sample_once(lengths, batch_size, seed):
    batches = batches_by_length(lengths, batch_size, seed)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    again = batches_by_length(lengths, batch_size, seed)
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))


def test_batches_of_similar_length_differ_between_seeds():
    lengths = np.random.default_rng(0).integers(1, 500, 6400)
    spread = [np.ptp(lengths[batch]) for batch in batches_by_length(lengths, 32, seed=0)]
    assert np.mean(spread) < 25  # of 500
    first, other = (batches_by_length(lengths, 32, seed)[0] for seed in (0, 1))
    assert set(first.tolist()) != set(other.tolist())
    middles = [lengths[batch].mean() for batch in batches_by_length(lengths, 32, seed=0)]
    assert abs(np.corrcoef(middles, range(len(middles)))[0, 1]) < 0.3  # in no order


def sequences_of(count):
    random = np.random.default_rng(1)
    return [random.integers(1, 20, random.integers(1, 12)) for _ in range(count)]


def test_a_batch_is_as_wide_as_its_longest():
    sequences, y = sequences_of(40), np.arange(40)
    loader = LengthLoader(PaddedSequences(sequences, y, maxlen=8), batch_size=7, seed=3)
    epochs = [list(loader), list(loader)]
    for x, labels in epochs[0]:
        assert x.shape[1] == max(min(len(sequences[k]), 8) for k in labels)
        for row, k in zip(x, labels, strict=True):
            np.testing.assert_array_equal(row[row > 0], sequences[k][-8:])
    orders = [np.concatenate([labels for _, labels in epoch]) for epoch in epochs]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(40))
    assert not np.array_equal(*orders)


def test_a_loader_by_length_goes_on_where_it_was():
    def made():
        return LengthLoader(PaddedSequences(sequences_of(30), np.arange(30)), 4, seed=5)

    begun = made()
    seen = [next(iter(begun))]
    later = made()
    later.load_state_dict(begun.state_dict())
    rest = [y for _, y in [*seen, *later]]
    np.testing.assert_array_equal(np.concatenate(rest), np.concatenate([y for _, y in made()]))


class Bag(nn.Module):
    """The mean of the words, of which ``lengths`` tell how many there are."""

    def __init__(self):
        self.words = nn.Embedding(20, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, tokens, lengths):
        return self.head(self.words(tokens).sum(axis=1) / lengths.reshape(-1, 1))


def test_widths_can_be_multiples_but_not_more_than_maxlen():
    rows = [[1], [1, 2, 3, 4], [5] * 5, [6] * 12, []]
    padded = PaddedSequences(rows, maxlen=10, pad_to_multiple_of=4, padding="post")
    assert [padded.batch(np.array([k]))[0].shape for k in range(5)] == [
        (1, 4), (1, 4), (1, 8), (1, 10), (1, 0)
    ]  # fmt: skip
    np.testing.assert_array_equal(padded.batch(np.array([0, 1]))[0], [[1, 0, 0, 0], [1, 2, 3, 4]])


def test_the_trainer_learns_from_batches_of_any_width():
    sequences = sequences_of(60)
    y = np.array([int(5 in row) for row in sequences])
    dataset = PaddedSequences(sequences, y, with_lengths=True)
    random.manual_seed(0)
    trainer = Trainer(Bag(), "cross_entropy", "adam", ["accuracy"])
    history = trainer.fit(LengthLoader(dataset, 16, seed=0), epochs=2, progress=False, seed=0)
    assert len(history.epochs) == 2
    assert trainer.evaluate(dataset)["loss"] < 2
    alone = [trainer.predict(PaddedSequences([row], y[:1], with_lengths=True)) for row in sequences]
    assert trainer.predict(dataset).shape == np.concatenate(alone).shape == (60, 2)


# ---------------------------------------------------------------------------------------- dates


@pytest.mark.parametrize(
    ("day", "spelling", "spelled"),
    [
        (date(1998, 3, 3), "{weekday}, {month} {nth}, {year}", "Tuesday, March 3rd, 1998"),
        (date(1998, 3, 3), "{dd}/{mm}/{yy}", "03/03/98"),
        (date(2001, 11, 21), "the {nth} of {month}, {year}", "the 21st of November, 2001"),
        (date(2012, 12, 12), "{wd} {day} {mon} {year}", "Wed 12 Dec 2012"),
        (date(2000, 2, 22), "{mon} {day} '{yy}", "Feb 22 '00"),
        (date(1950, 5, 11), "{month} {nth}, {year}", "May 11th, 1950"),
    ],
)
def test_spelling(day, spelling, spelled):
    assert dates.spell(day, spelling) == spelled


def test_no_two_dates_have_one_spelling():
    (everything,) = dates.pairs(36525)
    days = [date.fromisoformat(iso) for iso in everything[1]]
    assert len(set(days)) == 36525
    read = {}
    for day in (day for day in days if day.year in (1950, 1998, 2049)):
        for spelling in dates.SPELLINGS:
            assert read.setdefault(dates.spell(day, spelling), day) == day


def test_the_parts_share_no_date_and_come_again():
    parts = dates.pairs(500, 100, 0, seed=3)
    assert [len(spelled) for spelled, _ in parts] == [500, 100, 0]
    assert not set(parts[0][1]) & set(parts[1][1])
    assert parts == dates.pairs(500, 100, 0, seed=3) != dates.pairs(500, 100, 0, seed=4)
    for spelled, iso in zip(*parts[0], strict=True):
        assert any(dates.spell(date.fromisoformat(iso), s) == spelled for s in dates.SPELLINGS)


def test_the_corpora_can_be_encoded():
    reviews, _ = data.rotten_tomatoes()
    tokenizer = Tokenizer(num_words=5000).fit(reviews)
    assert len(tokenizer) == 5000
    assert tokenizer.tokens[2:5] == ["the", "a", "and"]
    assert sum(map(len, tokenizer.encode_all(reviews))) > 150_000
    play = data.shakespeare("validation")
    characters = Tokenizer("char").fit([data.shakespeare()])
    assert characters.decode(characters.encode(play)) == play
