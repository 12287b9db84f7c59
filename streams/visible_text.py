"""Text for people: names, titles, comments, notes. One rule, at every input.

Such a text is trimmed and in Unicode's form NFC; it has a visible character, and none that a terminal, a mail or a page
could take for a command. Its length is counted after that. Markup that is stored as sent is only checked.
"""

import re
import unicodedata
from collections.abc import Sequence

from msgspec import Meta

from callboard.streams.field_rules import Rule, field_rule

# Code points that are invisible alone, as ranges in hexadecimal: controls, spaces, combining marks, variation
# selectors, fillers of Hangul, the empty Braille pattern, private use, noncharacters, surrogates. Generated from
# Unicode's categories C, M and Z, so that the check and the document agree with any version of Python's own tables.
_SHOWS_NOTHING = """
0-20 7f-a0 ad 300-36f 483-489 591-5bd 5bf 5c1-5c2 5c4-5c5 5c7-5cf 600-605 610-61a 61c 64b-65f 670 6d6-6dd
6df-6e4 6e7-6e8 6ea-6ed 70f 711 730-74c 7a6-7b0 7eb-7f3 7fd 816-819 81b-823 825-827 829-82f 859-85d 890-89f
8ca-903 93a-93c 93e-94f 951-957 962-963 981-984 9bc 9be-9cd 9d7-9db 9e2-9e5 9fe-a04 a3c-a58 a70-a71 a75 a81-a84
abc abe-acf ae2-ae5 afa-b04 b3c b3e-b5b b62-b65 b82 bbe-bcf bd7-be5 c00-c04 c3c c3e-c57 c62-c65 c81-c83 cbc
cbe-cdc ce2-ce5 d00-d03 d3b-d3c d3e-d4d d57 d62-d65 d81-d84 dca-de5 df2-df3 e31 e34-e3e e47-e4e eb1 eb4-ebc
ec8-ecf f18-f19 f35 f37 f39 f3e-f3f f71-f84 f86-f87 f8d-fbd fc6 102b-103e 1056-1059 105e-1060 1062-1064
1067-106d 1071-1074 1082-108d 108f 109a-109d 115f-1160 135d-135f 1680 1712-171e 1732-1734 1752-175f 1772-177f
17b4-17d3 17dd-17df 180b-180f 1885-1886 18a9 1920-193f 1a17-1a1d 1a55-1a7f 1ab0-1b04 1b34-1b44 1b6b-1b73
1b80-1b82 1ba1-1bad 1be6-1bfb 1c24-1c3a 1cd0-1cd2 1cd4-1ce8 1ced 1cf4 1cf7-1cf9 1dc0-1dff 2000-200f 2028-202f
205f-206f 20d0-20ff 2800 2cef-2cf1 2d7f 2de0-2dff 3000 302a-302f 3099-309a 3164 a66f-a672 a674-a67d a69e-a69f
a6f0-a6f1 a802 a806 a80b a823-a827 a82c-a82f a880-a881 a8b4-a8cd a8e0-a8f1 a8ff a926-a92d a947-a95e a980-a983
a9b3-a9c0 a9e5 aa29-aa3f aa43 aa4c-aa4f aa7b-aa7d aab0 aab2-aab4 aab7-aab8 aabe-aabf aac1 aaeb-aaef aaf5-ab00
abe3-abea abec-abef e000-f8ff fb1e fdd0-fdef fe00-fe0f fe20-fe2f feff-ff00 ffa0 fff9-fffb fffe-ffff 101fd-1027f
102e0 10376-1037f 10a01-10a0f 10a38-10a3f 10ae5-10aea 10d24-10d2f 10eab-10eac 10f46-10f50 10f82-10f85
11000-11002 11038-11046 11070 11073-11074 1107f-11082 110b0-110ba 110bd 110c2-110cf 11100-11102 11127-11135
11145-11146 11173 11180-11182 111b3-111c0 111c9-111cc 111ce-111cf 1122c-11237 1123e-1127f 112df-112ef
11300-11304 1133b-1133c 1133e-1134f 11357-1135c 11362-113ff 11435-11446 1145e 114b0-114c3 115af-115c0
115dc-115ff 11630-11640 116ab-116b7 1171d-1172f 1182c-1183a 11930-1193e 11940 11942-11943 119d1-119e0
119e4-119ff 11a01-11a0a 11a33-11a39 11a3b-11a3e 11a47-11a4f 11a51-11a5b 11a8a-11a99 11c2f-11c3f 11c92-11cff
11d31-11d45 11d47-11d4f 11d8a-11d97 11ef3-11ef6 13430-143ff 16af0-16af4 16b30-16b36 16f4f 16f51-16f92
16fe4-16fff 1bc9d-1bc9e 1bca0-1cf4f 1d165-1d169 1d16d-1d182 1d185-1d18b 1d1aa-1d1ad 1d242-1d244 1da00-1da36
1da3b-1da6c 1da75 1da84 1da9b-1deff 1e000-1e0ff 1e130-1e136 1e2ae-1e2bf 1e2ec-1e2ef 1e8d0-1e8ff 1e944-1e94a
1fffe-1ffff 2fffe-2ffff 3fffe-10ffff
"""

# C0 and C1, embeddings, overrides and isolates of direction, deprecated format characters, the byte order mark,
# interlinear annotations, and noncharacters.
_CONTROLS = "0-8 b-c e-1f 7f-9f 202a-202e 2066-206f fdd0-fdef feff fff9-fffb fffe-ffff " + " ".join(
    f"{plane:x}fffe-{plane:x}ffff" for plane in range(1, 17)
)
_LINE_BREAKS = "9-a d 2028-2029"  # allowed in texts of several lines
_WITHOUT_WIDTH = "ad 200b 200e-200f 2060-2065"  # invisible too, but useful within a text


def _char_class(ranges: str) -> str:
    """Return the inside of a character class, in syntax that ECMA 262, Python and Rust share."""
    bounds = ([_char(bound) for bound in each.split("-")] for each in ranges.split())
    return "".join("-".join(each) for each in bounds)


def _char(bound: str) -> str:
    number = int(bound, 16)
    return f"\\u{number:04X}" if number <= 0xFFFF else chr(number)  # noqa: PLR2004 - the end of the BMP


_VISIBLE = re.compile(f"[^{_char_class(_SHOWS_NOTHING)}]")
_REFUSED_IN_LINES = _char_class(_CONTROLS)
_REFUSED_IN_LINE = _char_class(f"{_CONTROLS} {_LINE_BREAKS}")
UNSEEN = _char_class(f"{_CONTROLS} {_LINE_BREAKS} {_WITHOUT_WIDTH}")  # nobody types these knowingly
SURROGATES = r"\ud800-\udfff"  # UTF-8 cannot hold them, and other regex engines do not know them
_REFUSED = {
    True: re.compile(f"[{_REFUSED_IN_LINES}{SURROGATES}]"),
    False: re.compile(f"[{_REFUSED_IN_LINE}{SURROGATES}]"),
}


def visible(least: int, most: int, *, lines: bool = False, as_sent: bool = False, examples: Sequence[str] = ()) -> Meta:
    """Declare a text for people, of `least` to `most` characters.

    The annotation is `Annotated[str, visible(1, 200)]`. With `lines` the text may have line breaks and tabs; with
    `as_sent` it is checked and stored as sent. With a `least` of 0 it may also be empty.
    """
    refused = _REFUSED_IN_LINES if lines else _REFUSED_IN_LINE
    shown = rf"[^{refused}]*[^{_char_class(_SHOWS_NOTHING)}][^{refused}]*"
    schema = {"pattern": f"^{shown}$" if least else rf"^(?:\s*|{shown})$", "maxLength": most}
    if least:
        schema["minLength"] = least
    if least > 1:  # spaces at either end do not count
        schema["allOf"] = [{"pattern": r"\S.*\S"}]
    return field_rule(visible_rule(least, most, lines=lines, as_sent=as_sent), schema, examples=examples)


def visible_rule(least: int, most: int, *, lines: bool = False, as_sent: bool = False) -> Rule:
    """The rule itself, for a text without a declared type."""

    def read(text: str) -> str:
        if found := _REFUSED[lines].search(text):
            raise ValueError(f"must not contain the character U+{ord(found[0]):04X}")
        kept = text if as_sent else _normalised(text, lines=lines)
        if not least <= len(kept) <= most:
            if not kept:
                raise ValueError("must not be empty")
            raise ValueError(
                f"must have {least} to {most} characters" if least > 1 else f"must have {most} characters at most"
            )
        if (kept if least else kept.strip()) and not _VISIBLE.search(kept):
            raise ValueError("must show something: it is made of invisible characters only")
        return kept

    return read


def _normalised(text: str, *, lines: bool) -> str:
    """Trim a text, convert it to NFC, and reduce line breaks to line feeds."""
    if lines and "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = text.strip()
    return text if unicodedata.is_normalized("NFC", text) else unicodedata.normalize("NFC", text).strip()
