"""ESM-2's alphabet of 33 tokens, and the tables between bytes and tokens."""

import numpy as np

TOKENS: tuple[str, ...] = (
    "<cls>", "<pad>", "<eos>", "<unk>",
    "L", "A", "G", "V", "S", "E", "R", "T", "I", "D", "P", "K", "Q", "N", "F", "Y", "M", "H", "W", "C",
    "X", "B", "U", "Z", "O", ".", "-", "<null_1>", "<mask>",
)  # fmt: skip
"""Token strings by id, as in fair-esm and in Hugging Face's vocab.txt for ESM-2."""

CLS, PAD, EOS, UNK, MASK = 0, 1, 2, 3, 32
AMINO_ACIDS = TOKENS[4:24]
"""The 20 standard amino acids; their ids are 4..23."""
FIRST_AMINO_ACID, LAST_AMINO_ACID = 4, 23


def _byte_to_token() -> np.ndarray:
    table = np.full(256, UNK, np.uint8)
    for token, letter in enumerate(TOKENS):
        if len(letter) == 1:
            table[ord(letter)] = token
            table[ord(letter.lower())] = token
    table.setflags(write=False)
    return table


BYTE_TO_TOKEN: np.ndarray = _byte_to_token()
"""uint8[256]: the token of each ASCII letter, in either case; `<unk>` (3) for what ESM-2 lacks, such as J and `*`."""

TOKEN_TO_BYTE: np.ndarray = np.frombuffer(
    bytes(ord(token) if len(token) == 1 else ord("?") for token in TOKENS), np.uint8
)
"""uint8[33]: the ASCII letter of each token; `?` for tokens without a letter, among them `<unk>`."""


def encode(sequence: bytes | str) -> np.ndarray:
    """The tokens of a sequence, uint8[len(sequence)], without special tokens.

    >>> encode("MKV").tolist()
    [20, 15, 7]
    """
    raw = sequence.encode("ascii") if isinstance(sequence, str) else sequence
    return BYTE_TO_TOKEN[np.frombuffer(raw, np.uint8)]


def decode(tokens: np.ndarray) -> str:
    """The letters of tokens, uint8[n]; tokens without a letter become `?`."""
    return TOKEN_TO_BYTE[tokens].tobytes().decode("ascii")
