"""Formulas in the words of tables and statements as MathML, which browsers draw without a font or a script."""

import re
from collections.abc import Sequence

from markupsafe import Markup, escape

_NAMES = {"lambda_e": "<msub><mi>λ</mi><mi>e</mi></msub>", "g^": "<mover><mi>g</mi><mo>^</mo></mover>"}
_NAMES |= {
    word: f"<mi>{letter}</mi>" for word, letter in zip(("lambda", "eta", "gamma", "mu"), "ληγμ", strict=True)
}
_OPERATORS = {"<=": "≤", ">=": "≥", "-": "−", "*": "·", "<": "&lt;", ">": "&gt;", "||": "‖"}
_CLOSING = {"(": ")", "||": "||"}
_TOKEN = re.compile(
    r"lambda_e|lambda|eta|gamma|mu|sqrt|g\^(?!\w)|\d+(?:[.,]\d+)*(?:e-?\d+)?|[B-HJ-Zb-z]'?(?![\w'])"
    r"|<=|>=|\|\||[-+*/=()^<>]"
)
_FORMULA = re.compile(rf"(?<![\w'.])(?:(?:{_TOKEN.pattern}) *)+(?<! )(?![\w'])")
_SURE = re.compile(r"lambda|\beta\b|\^|\|\||<=|>=|sqrt")
"""What tells a formula from words that happen to be made of single letters, numbers and signs."""


def formulas(text: str) -> Markup:
    """Return a text as HTML, with the formulas in it (`lambda_e`, `||w||^2`, `<= 1e-9`) as MathML."""
    parts, end = [], 0
    for found in _FORMULA.finditer(text):
        tokens = _balanced(list(_TOKEN.finditer(text, *found.span())))
        if tokens and _SURE.search(found[0]):
            row = _row([token[0] for token in tokens])
            parts += [escape(text[end : tokens[0].start()]), Markup(f"<math>{row}</math>")]
            end = tokens[-1].end()
    return Markup("").join([*parts, escape(text[end:])])


def _balanced(tokens: list[re.Match[str]]) -> list[re.Match[str]]:
    """Return the most of the first tokens in which brackets match: the bracket of a sentence is no formula's."""
    opened, length = [], 0
    for place, token in enumerate(tokens):
        sign = token[0]
        if opened and sign == _CLOSING[opened[-1]]:
            opened.pop()
        elif sign in _CLOSING:
            opened.append(sign)
        elif sign == ")":
            break
        if not opened and sign != "sqrt":
            length = place + 1
    return tokens[:length]


def _row(tokens: Sequence[str]) -> str:
    """Return the elements of a row of a formula."""
    items, place = [], 0
    while place < len(tokens):
        if items and tokens[place][0].isdigit() and tokens[place - 1] in _NAMES:
            items.append('<mspace width=".25em"/>')
        item, place = _item(tokens, place)
        while place < len(tokens) and tokens[place] == "^":
            power, place = _item(tokens, place + 1)
            item = f"<msup>{item}{power}</msup>"
        items.append(item)
    return "".join(items)


def _item(tokens: Sequence[str], place: int) -> tuple[str, int]:
    """Return the element that begins at a place of a row, and the place after it."""
    if place == len(tokens):
        return "<mrow></mrow>", place
    token = tokens[place]
    if token == "sqrt" and tokens[place + 1] in _CLOSING:
        inside, end = _inside(tokens, place + 1)
        return f"<msqrt>{inside}</msqrt>", end
    if token in _CLOSING:
        inside, end = _inside(tokens, place)
        bracket = [_OPERATORS.get(sign, sign) for sign in (token, _CLOSING[token])]
        return f"<mrow><mo>{bracket[0]}</mo>{inside}<mo>{bracket[1]}</mo></mrow>", end
    return _leaf(token), place + 1


def _inside(tokens: Sequence[str], place: int) -> tuple[str, int]:
    """Return the row between the bracket at a place and the one that closes it, and the place after that."""
    opening, depth, end = tokens[place], 0, place + 1
    closing = _CLOSING[opening]
    while depth or tokens[end] != closing:
        depth += (tokens[end] == opening) - (tokens[end] == closing)
        end += 1
    return _row(tokens[place + 1 : end]), end + 1


def _leaf(token: str) -> str:
    if token in _NAMES:
        return _NAMES[token]
    if token[0].isdigit():
        number, _, power = token.partition("e")
        if not power:
            return f"<mn>{number}</mn>"
        times = "" if number == "1" else f"<mn>{number}</mn><mo>×</mo>"
        return f"{times}<msup><mn>10</mn><mn>{int(power)}</mn></msup>".replace("-", "−")
    if token[0].isalpha():
        return f"<mi>{token.replace(chr(39), '′')}</mi>"
    return f"<mo>{_OPERATORS.get(token, token)}</mo>"
