"""Password policy: the stored form of passwords (RFC 8265), and the rules for new ones."""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from enum import StrEnum

from zxcvbn.frequency_lists import FREQUENCY_LISTS

from callboard.streams.visible_text import SURROGATES, UNSEEN

MIN_LENGTH, MAX_LENGTH = 8, 128
NIST_MIN_LENGTH = 15
OWN_WORD_LENGTH = 4  # shorter words of a name are in too many good passwords by chance

# Each word stands in the list where it is most frequent and in no other: "october" is among the words of Wikipedia,
# "michael" among the names. So the first of every list are common passwords too, as is the name of the service.
_MOST_FREQUENT = 2_100  # up to "wednesday"
COMMON = frozenset(FREQUENCY_LISTS["passwords"]).union(
    {"callboard"}, *(words[:_MOST_FREQUENT] for words in FREQUENCY_LISTS.values())
)

_LEET = str.maketrans("@4831!0$5+7|", "aabeiiosstti")
_LEET_L = str.maketrans("1!|", "lll")
_BEFORE, _AFTER = re.compile(r"^[\W\d_]+"), re.compile(r"[\W\d_]+$")  # characters that people add to a word
_SEPARATORS = re.compile(r"[\W_]+")
_MOSTLY_DIGITS = re.compile(r"\D{0,3}(\d+)\D{0,3}")
_REPEATED = re.compile(r"(.+?)\1+", re.DOTALL)
_REPEATED_LENGTH = 6  # shorter ones are by chance

_UNSEEN = re.compile(f"[{UNSEEN}{SURROGATES}]")


class PasswordPolicy(StrEnum):
    """The rules for new passwords: `composition` is the default, `nist` NIST SP 800-63B-4, 3.1.1."""

    COMPOSITION = "composition"
    NIST = "nist"


def prepare_password(password: str) -> str:
    """Return the form of the password that is hashed, RFC 8265's OpaqueString: every space is U+0020, and all is in
    NFC.

    Raises ValueError for control characters, invisible characters and lone surrogates. Unlike the RFC it accepts
    characters that its version of Unicode had not assigned: an update must not break a password.
    """
    mapped = "".join(" " if unicodedata.category(each) == "Zs" else each for each in password)
    if _UNSEEN.search(mapped):
        raise ValueError("must not contain control characters or invisible ones")
    return unicodedata.normalize("NFC", mapped)


def password_faults(
    password: str, own: Iterable[str] = (), policy: PasswordPolicy = PasswordPolicy.COMPOSITION
) -> list[str]:
    """Validate a new password; the faults are sentences for its owner. `own` are texts that identify the owner (name,
    address).
    """
    try:
        password = prepare_password(password)
    except ValueError as error:
        return [str(error)]
    faults: list[str] = []
    shortest = NIST_MIN_LENGTH if policy is PasswordPolicy.NIST else MIN_LENGTH
    if not shortest <= len(password) <= MAX_LENGTH:
        faults.append(f"must have {shortest} to {MAX_LENGTH} characters")
    if policy is PasswordPolicy.COMPOSITION and not any(letter.isupper() for letter in password):
        faults.append("must have an upper case letter")
    if policy is PasswordPolicy.COMPOSITION and not any(letter.isdigit() for letter in password):
        faults.append("must have a digit")
    if not shortest <= len(password) <= MAX_LENGTH:
        return faults  # the rules below are not linear in the length
    if is_common(password):
        faults.append("is among the most common passwords")
    if any(word in form for word in _words(own) for form in _folded(fold_case(password))):
        faults.append("must not contain your name or address")
    return faults


def is_common(password: str) -> bool:
    """Whether a guesser of common passwords with the usual tricks would soon try this one.

    The tricks: case, accents, digits and signs for letters, digits and signs before, after and between the letters, one
    letter more at an end (the capital that is asked for), a few letters around a common number, repetition.
    """
    lowered = fold_case(password)
    bare = _without_ends({lowered})
    bare |= _without_ends({each for form in bare for each in (form[1:], form[:-1])})
    if digits := _MOSTLY_DIGITS.fullmatch(lowered):
        bare.add(digits[1])
    folded = {form for each in bare for form in _folded(each)}
    return any(_is_guessed(form) for form in folded | {_SEPARATORS.sub("", form) for form in folded})


def _without_ends(forms: set[str]) -> set[str]:
    """Return the forms, also without the digits and signs before, after, and at both ends."""
    forms = forms | {_BEFORE.sub("", form) for form in forms}
    return forms | {_AFTER.sub("", form) for form in forms}


def _is_guessed(form: str) -> bool:
    if len(form) < OWN_WORD_LENGTH:
        return False
    repeated = _REPEATED.fullmatch(form)
    unit = repeated[1] if repeated else form
    return form in COMMON or unit in COMMON or (len(unit) < OWN_WORD_LENGTH and len(form) >= _REPEATED_LENGTH)


def _words(own: Iterable[str]) -> set[str]:
    """The words of the owner's name and address that no password may contain; `ada_lovelace1815` has `lovelace` too."""
    folded = [fold_case(text) for text in own]
    found = {word for text in folded for separators in (r"\W+", r"[\W\d_]+") for word in re.split(separators, text)}
    return {word for word in found if len(word) >= OWN_WORD_LENGTH}


def fold_case(text: str) -> str:
    """Return the text without case, accents and compatibility forms."""
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return "".join(each for each in decomposed if not unicodedata.combining(each))


def _folded(text: str) -> Iterator[str]:
    """Return the text, and the text with letters for digits and signs that look like them."""
    yield text
    yield text.translate(_LEET)
    yield text.translate(_LEET_L).translate(_LEET)
