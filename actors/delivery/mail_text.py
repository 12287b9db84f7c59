"""The text of mails: the characters that may be sent, and the encoding of headers.

Text of users is encoded and never parsed: an encoded word (RFC 2047) that a user types arrives as those characters. We
write header lines ourselves, because Python's email package decodes text that looks encoded.
"""

import re
from base64 import b64encode

MAX_SUBJECT = 200
WORD_BYTES = 39  # `Subject: ` and one encoded word fit into the 76 characters of RFC 2047

# Never sent: controls but for tab and line feed, marks, embeddings, overrides and isolates of direction, spaces and
# joiners without width (those of emoji and of Persian stay), tags, annotations, noncharacters and surrogates.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ud800-\udfff\ufdd0-\ufdef\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]"
)
_LINE_BREAK = re.compile("\r\n|[\r\n\x0b\x0c\x85\u2028\u2029]")
_PHRASE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]{1,60}")
_WORD = re.compile(r"[^\s<>\"(),:;\[\]]+")


def clean_text(text: str) -> str:
    """Return the text without forbidden characters, with line feeds as the only line breaks."""
    return _HIDDEN.sub("", _LINE_BREAK.sub("\n", text))


def clean_line(text: str, most: int = MAX_SUBJECT) -> str:
    """Return the text on one line of at most `most` characters: a line break in a title cannot begin a header."""
    return " ".join(clean_text(text).split())[:most]


def header_text(text: str) -> str:
    """Encode a header's value: plain ASCII as it is, any other text as encoded words, folded."""
    line = clean_line(text, max(len(text), 1))
    if line.isascii() and "=?" not in line and len(line) <= 2 * WORD_BYTES:
        return line
    return "\r\n ".join(_encoded_words(line))


def header_phrase(text: str) -> str:
    """Encode a display name, where more characters have a meaning."""
    line = clean_line(text)
    plain = _PHRASE.fullmatch(line) is not None and "=?" not in line
    return line if plain else "\r\n ".join(_encoded_words(line))


def _encoded_words(line: str) -> list[str]:
    """Encode a text as base64 encoded words of whole characters."""
    words: list[str] = []
    piece = b""
    for character in line:
        encoded = character.encode()
        if len(piece) + len(encoded) > WORD_BYTES:
            words.append(_encoded_word(piece))
            piece = b""
        piece += encoded
    return [*words, _encoded_word(piece)] if piece else words


def _encoded_word(piece: bytes) -> str:
    return f"=?utf-8?b?{b64encode(piece).decode()}?="


def without_addresses(text: str) -> str:
    """Return a server's reply on one line, for logs and operators, without addresses: servers quote the recipient's."""
    return _WORD.sub(lambda word: "(address)" if "@" in word[0] else word[0], clean_line(text, 500))
