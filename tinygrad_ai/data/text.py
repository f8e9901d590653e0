"""From texts to numbers and back: cleaning, a vocabulary, padding, batches of similar length."""

from __future__ import annotations

import html
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np

from tinygrad_ai.data.dataset import TensorDataset
from tinygrad_ai.data.loader import DataLoader
from tinygrad_ai.errors import DataError, DTypeError, ShapeError, ValueRangeError, whole_number

Array: TypeAlias = np.ndarray[Any, Any]

PADDING, UNKNOWN, START, END = range(4)
LEVELS = {"word": "word", "char": "character"}
SIDES = ("pre", "post")

TAG = re.compile(r"<[a-z!/][^<>]*>", re.IGNORECASE)
WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


def clean(text: str) -> str:
    """The words of ``text`` in lower case with one space between them.

    HTML tags such as ``<br />`` separate words and are dropped, entities such as ``&amp;`` are
    decoded, and Unicode is brought to one form (NFKC: ``ﬁ`` becomes ``fi``, a letter and its accent
    one character). A word is a run of letters and digits of any script, with apostrophes inside it
    (``don't``, also where it was typed ``don’t``); all else separates. Raises DTypeError for what
    is no string.

    >>> clean("It’s <b>GREAT</b>!<br />Don't miss 'Alien'&nbsp;(1979).")
    "it's great don't miss alien 1979"
    """
    return " ".join(_words(_string("clean", text)))


def _words(text: str) -> list[str]:
    if "<" in text:
        text = TAG.sub(" ", text)
    if "&" in text:
        text = html.unescape(text)
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.replace("’", "'"))
    return WORD.findall(text.lower())


class Tokenizer:
    """A vocabulary: texts become arrays of whole numbers, tokens, and the other way round.

    ``level`` "word" takes a text apart with :func:`clean`; "char" takes every character as it is.
    ``fit`` learns the tokens, the most frequent first, equally frequent ones in alphabetical order.
    The vocabulary ends at ``num_words`` tokens, special ones included (what an ``Embedding`` needs
    as ``num_embeddings``), and leaves out what occurs less than ``min_count`` times.

    Special tokens come first: 0 is padding, 1 stands for everything unknown, and with ``ends`` 2
    and 3 begin and end every encoded text. ``tokens`` lists the vocabulary, ``len`` counts it.

    Raises ValueRangeError for another ``level`` and for numbers that leave no room.

    >>> tokenizer = Tokenizer().fit(["the cat", "the dog"])
    >>> tokenizer.tokens
    ['<pad>', '<unk>', 'the', 'cat', 'dog']
    >>> tokenizer.encode("The bird!")
    array([2, 1])
    """

    def __init__(
        self,
        level: str = "word",
        num_words: int | None = None,
        min_count: int = 1,
        ends: bool = False,
    ) -> None:
        self.level = _one_of("Tokenizer", "level", level, list(LEVELS))
        self.ends = bool(ends)
        self.special = ["<pad>", "<unk>", *(["<start>", "<end>"] if ends else [])]
        self.min_count = whole_number("Tokenizer", "min_count", min_count, least=1)
        least = len(self.special) + 1
        if num_words is not None:
            whole_number("Tokenizer", "num_words", num_words, least)
        self.num_words = num_words
        self._learn([])

    def _learn(self, tokens: Iterable[str]) -> None:
        self.tokens = [*self.special, *tokens]
        first = len(self.special)
        self._index = {token: k for k, token in enumerate(self.tokens[first:], first)}

    def fit(self, texts: Iterable[str]) -> Tokenizer:
        """Learns the vocabulary of ``texts``, a list of strings, in the place of an earlier one.

        Returns the tokenizer. Raises DTypeError for a single string or what are no strings,
        ValueRangeError where there is no text, or none holds a token often enough.
        """
        counts: Counter[str] = Counter()
        for text in _strings("fit", texts):
            counts.update(self._split(text))
        kept = [token for token, count in counts.items() if count >= self.min_count]
        if not kept:
            often = f" {self.min_count} times" if self.min_count > 1 else ""
            raise ValueRangeError(f"fit: there is no {LEVELS[self.level]} in the texts{often}")
        kept.sort(key=lambda token: (-counts[token], token))
        room = None if self.num_words is None else self.num_words - len(self.special)
        self._learn(kept[:room])
        return self

    def encode(self, text: str) -> Array:
        """The tokens of ``text``, int64 of shape (length,).

        Raises DTypeError for what is no string, and ValueRangeError before ``fit`` and for a text
        that is empty or, at level "word", holds no word.
        """
        return self._encode("encode: the text", _string("encode", text))

    def encode_all(self, texts: Iterable[str]) -> list[Array]:
        """The tokens of every one of ``texts``, as :meth:`encode` gives them."""
        listed = _strings("encode_all", texts)
        return [self._encode(f"encode_all: text {k}", text) for k, text in enumerate(listed)]

    def _encode(self, caller: str, text: str) -> Array:
        if not self._index:
            raise ValueRangeError("encode: the vocabulary is empty; fit(texts) learns one")
        known = self._index.get
        found = [known(token, UNKNOWN) for token in self._split(text)]
        if not found:
            raise ValueRangeError(f"{caller} has no {LEVELS[self.level]}: {text[:40]!r}")
        return np.array([START, *found, END] if self.ends else found, dtype=np.int64)

    def decode(self, tokens: Any) -> str:
        """The text that ``tokens``, whole numbers of shape (length,), stand for.

        Words are joined by spaces. Padding and the start are left out, and nothing is read past the
        end; an unknown token reads ``<unk>``, an unknown character ``�``. Of characters that
        ``fit`` has seen, ``decode(encode(text)) == text``. Raises ValueRangeError for a number that
        is no token, DTypeError and ShapeError for what is no row of whole numbers.
        """
        row = _row("decode", tokens)
        outside = np.flatnonzero((row < 0) | (row >= len(self.tokens)))
        if len(outside):
            raise ValueRangeError(
                f"decode: {row[outside[0]]} at place {outside[0]} is no token: "
                f"there are {len(self.tokens)}, numbered from 0"
            )
        shown: dict[int, str] = {PADDING: "", START: "", END: ""} if self.ends else {PADDING: ""}
        if self.level == "char":
            shown[UNKNOWN] = "\N{REPLACEMENT CHARACTER}"
        numbers = row.tolist()
        if self.ends and END in numbers:
            numbers = numbers[: numbers.index(END)]
        parts = [shown.get(number, self.tokens[number]) for number in numbers]
        return "".join(parts) if self.level == "char" else " ".join(filter(None, parts))

    def __len__(self) -> int:
        return len(self.tokens)

    def _split(self, text: str) -> Iterable[str]:
        return text if self.level == "char" else _words(text)

    def state_dict(self) -> dict[str, Any]:
        """The vocabulary as JSON values, such as the metadata of a model file can hold."""
        learned = self.tokens[len(self.special) :]
        return {"level": self.level, "ends": self.ends, "tokens": learned}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Tokenizer:
        """The tokenizer whose ``state_dict()`` this is; raises DataError for anything else."""
        names = ("level", "ends", "tokens")
        if not isinstance(state, dict) or any(name not in state for name in names):
            raise DataError(f"this is no Tokenizer's state: it needs {', '.join(names)}")
        tokens = state["tokens"]
        strings = isinstance(tokens, list) and all(isinstance(token, str) for token in tokens)
        if state["level"] not in LEVELS or not strings or len(set(tokens)) < len(tokens):
            raise DataError("this is no Tokenizer's state: level or tokens are damaged")
        tokenizer = cls(state["level"], ends=state["ends"])
        tokenizer._learn(tokens)
        return tokenizer


def pad_sequences(
    sequences: Sequence[Any],
    maxlen: int | None = None,
    padding: str = "pre",
    truncating: str = "pre",
    value: int = 0,
    return_lengths: bool = False,
) -> Any:
    """Rows of whole numbers of any length as one int64 array (N, maxlen), as in Keras.

    Shorter ones are filled with ``value`` before ("pre") or after ("post") them; longer ones lose
    their beginning ("pre") or their end ("post"). Without ``maxlen`` it is the longest length. With
    ``return_lengths`` the result is ``(array, lengths)``: the number of places in each row, int64
    (N,), that were not filled.

    Raises ValueRangeError for no sequences, a ``maxlen`` below 1 and another ``padding`` or
    ``truncating``; DTypeError and ShapeError where one is no row of whole numbers.
    """
    _one_of("pad_sequences", "padding", padding, SIDES)
    rows, lengths = _cut("pad_sequences", sequences, maxlen, truncating)
    width = lengths.max() if maxlen is None else maxlen
    padded = np.full((len(rows), width), value, dtype=np.int64)
    for line, row in zip(padded, rows, strict=True):
        line[slice(len(row)) if padding == "post" else slice(width - len(row), None)] = row
    return (padded, lengths) if return_lengths else padded


def _cut(
    caller: str, sequences: Sequence[Any], maxlen: int | None, truncating: str
) -> tuple[list[Array], Array]:
    """The sequences, checked, as rows of no more than ``maxlen`` numbers, and their lengths."""
    _one_of(caller, "truncating", truncating, SIDES)
    most = None if maxlen is None else whole_number(caller, "maxlen", maxlen, least=1)
    part = slice(most) if truncating == "post" or most is None else slice(-most, None)
    rows = [_row(f"{caller}: sequence {k}", row)[part] for k, row in enumerate(sequences)]
    if not rows:
        raise ValueRangeError(f"{caller}: there are no sequences")
    return rows, np.array([len(row) for row in rows], dtype=np.int64)


class PaddedSequences:
    """A data set of sequences, whose batches are only as wide as their longest one.

    An item is ``(tokens, *fields)``, a batch ``(padded, *fields)`` with ``padded`` int64
    (n, longest) as from :func:`pad_sequences`, which ``maxlen``, ``padding`` and ``truncating`` go
    to. ``fields`` are arrays whose first axis counts the sequences: labels, say. With
    ``with_lengths`` the lengths, int64 (n,), come between the two, for a model of two inputs.
    With ``pad_to_multiple_of`` (a name of Hugging Face's) widths are multiples of it, but at most
    ``maxlen``: a step is compiled for each width, so there should be few.

    Raises what :func:`pad_sequences` raises, ShapeError where numbers of samples differ, and
    ValueRangeError for ``pad_to_multiple_of`` < 1.
    """

    def __init__(
        self,
        sequences: Sequence[Any],
        *fields: Any,
        maxlen: int | None = None,
        padding: str = "pre",
        truncating: str = "pre",
        with_lengths: bool = False,
        pad_to_multiple_of: int = 1,
    ) -> None:
        self.rows, self.lengths = _cut("PaddedSequences", sequences, maxlen, truncating)
        self.padding = _one_of("PaddedSequences", "padding", padding, SIDES)
        self.maxlen = maxlen
        self.multiple = whole_number(
            "PaddedSequences", "pad_to_multiple_of", pad_to_multiple_of, least=1
        )
        self.fields = TensorDataset(
            *([self.lengths] if with_lengths else []), *fields, self.lengths
        )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        return self.rows[index], *self.fields[index][:-1]

    def batch(self, indices: Array) -> tuple[Any, ...]:
        """The samples at ``indices``, padded to the longest among them, or a little more."""
        width = -(-int(self.lengths[indices].max(initial=0)) // self.multiple) * self.multiple
        width = width if self.maxlen is None else min(width, self.maxlen)
        rows = [self.rows[k] for k in indices.tolist()]
        padded = pad_sequences(rows, width or None, padding=self.padding)
        return padded, *self.fields.batch(indices)[:-1]


class LengthLoader(DataLoader):
    """A shuffling :class:`DataLoader` over :class:`PaddedSequences`, with little padding.

    Every epoch mixes the samples anew, as :func:`batches_by_length` does, from ``seed``.
    """

    def __init__(
        self, dataset: PaddedSequences, batch_size: int = 32, seed: int | None = None
    ) -> None:
        super().__init__(dataset, batch_size, shuffle=True, seed=seed)

    def _order(self, epoch: int) -> Array:
        order = np.random.PCG64([self.seed, epoch])
        return np.concatenate(_grouped(self.dataset.lengths, self.batch_size, order))


def batches_by_length(lengths: Any, batch_size: int, seed: int | None = None) -> list[Array]:
    """Indices of the samples, in batches of similar length and of random order.

    ``lengths`` are whole numbers of shape (N,). The samples are shuffled, sorted by length within
    pools of 50 batches, and the batches shuffled; a smaller last batch stays last. So batches
    differ between seeds, and little of them is padding. Without a ``seed`` one is drawn. Raises
    ValueRangeError for no samples and ``batch_size`` < 1.
    """
    whole_number("batches_by_length", "batch_size", batch_size, least=1)
    if seed is not None:
        whole_number("batches_by_length", "seed", seed, least=0)
    row = _row("batches_by_length", lengths)
    if not len(row):
        raise ValueRangeError("batches_by_length: there are no samples")
    return _grouped(row, batch_size, np.random.PCG64(seed))


POOL = 50  # batches


def _grouped(lengths: Array, batch_size: int, bits: np.random.PCG64) -> list[Array]:
    random = np.random.Generator(bits)
    order = random.permutation(len(lengths))
    pools = np.arange(len(order)) // (POOL * batch_size)
    order = order[np.lexsort((lengths[order], pools))]
    batches = np.split(order, range(batch_size, len(order), batch_size))
    whole = len(order) // batch_size
    return [*(batches[k] for k in random.permutation(whole)), *batches[whole:]]


# ------------------------------------------------------------------------------------ arguments


def _one_of(caller: str, name: str, value: Any, known: Sequence[str]) -> str:
    if value not in known:
        raise ValueRangeError(f"{caller}: {name} {value!r} is none of {', '.join(known)}")
    return str(value)


def _string(caller: str, text: Any) -> str:
    if not isinstance(text, str):
        raise DTypeError(f"{caller}: a text must be a string, not {type(text).__name__}")
    return text


def _strings(caller: str, texts: Any) -> list[str]:
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        raise DTypeError(
            f"{caller}: texts must be a list of strings, not a {type(texts).__name__}",
            "   help: [text] is a list of one",
        )
    listed = [_string(f"{caller}: text {k}", text) for k, text in enumerate(texts)]
    if not listed:
        raise ValueRangeError(f"{caller}: there are no texts")
    return listed


def _row(caller: str, numbers: Any) -> Array:
    row = np.asarray(numbers)
    if row.ndim != 1:
        raise ShapeError(f"{caller}: a sequence has one axis, not the shape {row.shape}")
    if row.dtype.kind not in "iu" and len(row):
        raise DTypeError(f"{caller}: a sequence holds whole numbers, not {row.dtype}")
    return row.astype(np.int64, copy=False)
