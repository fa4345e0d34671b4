"""Words of a raw sentence in any alphabet, as treebanks of English cut them."""

import re
import unicodedata

# Not \w, which lacks the vowel signs of many scripts and would cut words at them.
_MARKS = "".join(
    re.escape(character)
    for character in map(chr, range(0x10000))
    if unicodedata.category(character)[0] in "PS"
)
_LETTER = rf"[^\s{_MARKS}]"
_WORD = re.compile(
    rf"n't\b|'(?:s|m|d|re|ve|ll)\b|{_LETTER}+?(?=n't\b)"  # did n't, it 's
    rf"|{_LETTER}+(?:(?:[-/]|(?<=\d)[.,](?=\d)){_LETTER}+)*"  # well-made, 1.5
    r"|(\S)\1*"  # . ... --
)


def normal_form(text: str) -> str:
    """The words of `text` in small letters, one space between two; what has this form
    already stays as it is."""
    text = unicodedata.normalize("NFC", text).lower().replace("’", "'")
    return " ".join(match.group() for match in _WORD.finditer(text))
