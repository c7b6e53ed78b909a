"""Source code: whether it is there at all, and whether it says that it is somebody's own."""

from __future__ import annotations

from classifiers.recognizers.rule import WORD, Rule

RULES = (
    Rule(
        "source_code.proprietary", "PROPRIETARY_CODE", "source_code",
        r"(?i:copyright (?:\(c\)|\xc2\xa9)? ?(?:19|20)\d{2}[^\n]{0,80}all rights reserved|proprietary (?:and confidential|code|software|source|algorithm)|closed[ \-]source|not open source|from our (?:proprietary|own|internal|private) (?:code ?base|repo(?:sitory)?|engine|library)|our (?:proprietary|closed|internal) (?:code|source|algorithm|engine|repo))", 0.85,
        matches=("our proprietary algorithm", "this is closed source", "Copyright 2024 Acme, all rights reserved"), misses=("open source", "proprietary trading"), edges=WORD,
        trigger=r"(?i:copyright|proprietary|closed[ \-]source|not open|our (?:closed|internal|own|private))",
    ),
    Rule(
        "source_code.snippet", "SOURCE_CODE", "code",
        r"(?m:^[ \t]*(?:def \w+\(|class \w+[(:{]|import \w+|from [\w.]+ import |#include\s*<|public (?:static |class |void )|private (?:static |final |void )|func \w+\(|function \w+\(|const \w+ = |let \w+ = |package \w+;?|SELECT .{1,200} FROM |CREATE TABLE |using [\w.]+;|namespace \w+|fn \w+\(|impl \w+))", 0.7,
        matches=("def total(order):\n    return 1", "#include <stdio.h>", "const x = 1;"), misses=("the class was long", "we import cars"),
    ),
)  # fmt: skip
