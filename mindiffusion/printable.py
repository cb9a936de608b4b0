"""Text of a stranger, made fit to be shown: on a terminal, in a message, in a spreadsheet.

Control characters move a terminal's cursor or set its title; line breaks forge lines of a table;
marks of writing direction show a name as another one; half a surrogate pair cannot be written.
"""

import re
import unicodedata

MOST_CHARACTERS = 600
"""Of a message."""

# Cc: control, Cf: format (writing direction, width zero), Cs: surrogate, Zl, Zp: line, paragraph.
# Co, Cn (private use, not assigned) are shown as the terminal likes.
_UNFIT = ("Cc", "Cf", "Cs", "Zl", "Zp")
_IS_PLAIN = re.compile(r"[\x20-\x7e]*")
# A cell that a spreadsheet would read as a formula begins so.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
# "-4.2 %", "+15.5 % (+6.7 to +25.0)", "-0.5 ± 0.1": characters that make no formula of harm.
_IS_AMOUNT = re.compile(r"[-+][-+\d.,%()<>±− ]*(e[-+]?\d+)?( to [-+\d.,%()− ]*)?")


def is_printable(text: str) -> bool:
    """Whether a text can be shown as it is: no control or format character, no line break."""
    if _IS_PLAIN.fullmatch(text):
        return True
    return not any(unicodedata.category(character) in _UNFIT for character in text)


def printable(text: object, most: int = MOST_CHARACTERS) -> str:
    r"""``text`` with what is not fit to be shown as its code (``\x1b``, ``\u202e``), and bounded.

    Args:
        text: anything; its ``str`` is taken.
        most: characters; of a longer text the end is replaced by an ellipsis.
    """
    whole = str(text)
    shown = whole[:most]
    if not is_printable(shown):
        shown = "".join(map(_shown, shown))
    return shown if len(shown) <= most and len(whole) <= most else shown[: most - 1] + "…"


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _UNFIT:
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def spreadsheet_cell(text: str) -> str:
    """``text`` as a cell of a csv file that no spreadsheet takes for a formula.

    An apostrophe before it is how spreadsheets mark text; amounts with a sign stay as they are.
    Source: OWASP, "CSV Injection".
    """
    if text.startswith(_FORMULA) and not _IS_AMOUNT.fullmatch(text):
        return f"'{text}"
    return text
