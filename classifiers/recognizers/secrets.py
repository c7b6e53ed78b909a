"""What opens doors: keys, tokens, private keys, passwords, connection strings."""

from __future__ import annotations

import re

from classifiers.recognizers.rule import WORD, Rule

TOKEN = WORD + b"-"
_PLACEHOLDERS = frozenset(
    b"password passwd secret example changeme none null true false required optional string text value hidden masked redacted "
    b"your yours the a an is are was not wrong correct incorrect expired invalid missing too very reset changed stored hashed "
    b"protected safe strong weak short long unknown forgotten lost needed empty same".split()
)
_STRONG = re.compile(rb"[0-9!@#$%^&*+=~]", re.ASCII)
_MASKED = re.compile(rb"[*xX.\-_<>{}$%]+|\$\{.*|<.*|\{\{.*|%\(.*", re.ASCII)
_PASSWORD = re.compile(rb"(?i)(?:is|was|are|[:=]+)\s*[\"'`]?([^\s\"'`,;]{4,64})$", re.ASCII)


def _password(text: bytes, start: int, end: int) -> int | None:
    found = _PASSWORD.search(text[start:end])
    if found is None:
        return None
    value = found[1].rstrip(b".)!?") or found[1]
    if value.lower() in _PLACEHOLDERS or _MASKED.fullmatch(value):
        return None
    stated = b"=" in text[start : end - len(found[1])] or b":" in text[start : end - len(found[1])]
    strong = _STRONG.search(found[1]) is not None
    return end if strong or (stated and len(value) >= 6) else None


RULES = (
    Rule(
        "secrets.aws_access_key", "AWS_ACCESS_KEY", "credential", r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}", 1.0,
        matches=("AKIAIOSFODNN7EXAMPLE", "key=ASIAQWERTYUIOP123456"), misses=("AKIA123", "XAKIAIOSFODNN7EXAMPLEX"), edges=TOKEN,
    ),
    Rule(
        "secrets.aws_secret_key", "AWS_SECRET_KEY", "credential",
        r"(?i)aws.{0,20}secret.{0,30}[=:]\s*[\"']?[A-Za-z0-9/+=]{40}", 1.0,
        matches=("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",), misses=("the aws secret manager",),
    ),
    Rule(
        "secrets.github", "GITHUB_TOKEN", "credential", r"gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{60,255}", 1.0,
        matches=("ghp_" + "a1B2" * 9, "github_pat_" + "A1" * 41), misses=("ghp_short", "https://github.com/x"), edges=WORD,
    ),
    Rule(
        "secrets.ringfence", "RINGFENCE_KEY", "credential", r"rf_live_[0-9A-Za-z]{10}_[0-9A-Za-z]{49}", 1.0,
        matches=("rf_live_0123456789_" + "a" * 49,), misses=("rf_live_short",), edges=WORD,
    ),
    Rule(
        "secrets.vendor_key", "API_KEY", "credential",
        r"xox[baprs]-[0-9A-Za-z\-]{10,250}|sk-(?:proj-|ant-)?[A-Za-z0-9_\-]{20,250}|AIza[0-9A-Za-z_\-]{35}|[rs]k_live_[0-9A-Za-z]{20,250}"
        r"|glpat-[0-9A-Za-z_\-]{20}|npm_[A-Za-z0-9]{36}|SG\.[A-Za-z0-9_\-]{22}\.[A-Za-z0-9_\-]{43}", 1.0,
        matches=("xoxb-1234567890-abcdef", "sk-proj-abcdefghij0123456789", "AIza" + "Sy0" * 11 + "ab"),
        misses=("pk_live_0123456789abcdefghij", "sk-short", "task-1234567890123456789012"), edges=WORD,
    ),
    Rule(
        "secrets.jwt", "JWT", "credential", r"eyJ[A-Za-z0-9_\-]{8,}\.eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}", 1.0,
        matches=("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmN",), misses=("eyJhbGciOiJIUzI1NiJ9", "a.b.c"), edges=WORD,
    ),
    Rule(
        "secrets.private_key", "PRIVATE_KEY", "credential", r"-----BEGIN (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----", 1.0,
        matches=("-----BEGIN RSA PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----"), misses=("-----BEGIN PUBLIC KEY-----",),
    ),
    Rule(
        "secrets.connection_string", "CONNECTION_STRING", "credential",
        r"[A-Za-z][A-Za-z0-9+.\-]{1,20}://[^\s:/@\"']{1,64}:[^\s@/\"']{3,128}@[A-Za-z0-9.\-]{1,253}", 1.0,
        matches=("postgres://app:s3cr3t@db.example.com/x", "amqp://u:passw0rd@host"), misses=("https://example.com:8080/a@b", "http://host/"),
        edges=WORD,
    ),
    Rule(
        "secrets.bearer", "HTTP_CREDENTIAL", "credential", r"(?i)authorization\s*:\s*(?:basic|bearer)\s+[A-Za-z0-9+/=._\-]{12,500}", 1.0,
        matches=("Authorization: Basic dXNlcjpwYXNzd29yZA==",), misses=("authorization: none",),
    ),
    Rule(
        "secrets.password", "PASSWORD", "credential",
        r"(?i)(?:password|passwd|passwort|passphrase|pwd|api[_ -]?key|secret[_ -]?key|access[_ -]?token|auth[_ -]?token)"
        r"[\"'`]?\s{0,3}(?:is|was|:|=|:=)\s{0,3}[\"'`]?[^\s\"'`,;]{4,64}", 0.9,
        matches=("the password is hunter2!", "password: correcthorse", 'db_password = "s3cretPW"', "PWD=Tr0ub4dor"),
        misses=("the password is wrong", "password: ******", "password = ${DB_PASSWORD}", "password is required", "Password: <your password>"),
        check=_password,
    ),
)  # fmt: skip
