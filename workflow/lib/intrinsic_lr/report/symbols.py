"""Symbols in place of the letters that tables and statements write formulas with."""

import re

_SYMBOLS = (
    (r"\blambda_e\b", "λₑ"),
    (r"\blambda\b", "λ"),
    (r"\beta\b", "η"),
    (r"\bg\^(?!\w)", "ĝ"),
    (r"\^2(?!\w)", "²"),
    (r"\|\|", "‖"),
    (r"<=", "≤"),
    (r">=", "≥"),
)


def symbols(text: str) -> str:
    """Return a text with `lambda_e`, `eta`, `^2`, `||`, `<=` and the like as the symbols that they stand for."""
    for pattern, symbol in _SYMBOLS:
        text = re.sub(pattern, symbol, text)
    return text
