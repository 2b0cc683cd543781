"""The WordPiece tokens of BERT (Devlin et al., 2018, section 3), lower-cased: what all-MiniLM-L6-v2 reads.

The vocabulary is a file of this package, so that a token count never depends on a download.
"""

import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

START_ID, END_ID = 101, 102
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

# A longer stretch without a blank is no word; it is not remembered, its parts are.
_LONGEST_WORD = 40

# What BERT takes for a word of its own wherever it stands: Chinese characters, and marks such as these.
_STANDS_ALONE = (
    r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002a6df\U0002a700-\U0002b81f\U0002f800-\U0002fa1f"
    r"!-/:-@\[-`{-~\u3001\u3002\uff0c\uff1a\uff1b\uff01\uff1f]"
)
_PARTS_OF_WORD = re.compile(rf"{_STANDS_ALONE}|(?:(?!{_STANDS_ALONE}).)+", re.DOTALL)


@cache
def load_tokenizer() -> Tokenizer:
    """Return the tokenizer of bert-base-uncased. It adds neither `[CLS]` nor `[SEP]`, and cuts nothing off."""
    text = (files("app.embeddings.data") / "bert-base-uncased-vocab.txt").read_text("utf-8")
    vocabulary = {token: number for number, token in enumerate(text.split("\n")[:-1])}
    # A word of more than 100 characters is unknown to the model, as in the original.
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))  # noqa: S106
    tokenizer.normalizer = BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True
    )
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.add_special_tokens(_SPECIAL)
    return tokenizer


def token_ids(text: str) -> list[int]:
    """Return the numbers of a text's tokens."""
    # To the tokenizer a form feed is nothing, and the words on both sides of it are one; here every blank is a blank.
    # One text at a time: `encode_batch` starts threads, which do not survive a fork of the process.
    ids: list[int] = load_tokenizer().encode(" ".join(text.split()), add_special_tokens=False).ids
    return ids


class Word(NamedTuple):
    """What BERT takes for a word: where it starts and ends, in characters, and how many tokens it is (at most 100)."""

    start: int
    end: int
    tokens: int


def words(run: str) -> Iterator[Word]:
    """Yield the words of a text without blanks, such as those of a Chinese paragraph."""
    encoding = load_tokenizer().encode(run, add_special_tokens=False)
    for _, tokens in groupby(zip(encoding.word_ids, encoding.offsets, strict=True), key=itemgetter(0)):
        places = [place for _, place in tokens]
        yield Word(places[0][0], places[-1][1], len(places))


class TokenCounter(dict[str, int]):
    """Counts the tokens of texts that have many words in common, some 20 times as fast as the tokenizer.

    No token reaches over a blank, so the counts of the words add up; each word is counted once and remembered. Make one
    for each document: it grows with the document's words.
    """

    def __missing__(self, word: str) -> int:
        if len(word) > _LONGEST_WORD:
            parts = _PARTS_OF_WORD.findall(word)
            return len(token_ids(word)) if len(parts) == 1 else sum(map(self.__getitem__, parts))
        self[word] = count = len(token_ids(word))
        return count

    def count(self, text: str) -> int:
        """Return the number of tokens."""
        return sum(map(self.__getitem__, text.split()))
