"""Secrets that only their surroundings give away: private keys, connection strings, headers, passwords in prose and in code."""

from __future__ import annotations

import re

from classifiers.recognizers.rule import WORD, Rule
from classifiers.recognizers.tokens import entropy

_PLACEHOLDERS = frozenset(
    b"password passwd secret secrets example changeme none null nil true false required optional string text value hidden masked redacted undefined default "
    b"your yours the a an is are was not wrong correct incorrect expired invalid missing too very reset changed stored hashed test testing todo tbd n/a empty "
    b"protected safe strong weak short long unknown forgotten lost needed same different here there this that it and or for from with must should can will "
    b"field input hash policy manager generator length strength recovery protection process environ getenv os env config settings credentials secure "
    b"sent shared case-sensitive sensitive always never only also encrypted important mandatory okay good bad compromised leaked exposed weird set unset".split()
)
_FILLED = re.compile(
    rb"(?i)[*xX.\-_<>{}$%#]+|\$\{.*|\$\(.*|\$[A-Z_]+|<.*|\{\{.*|%\(.*|\[.*|os\..*|process\.env.*|env\..*|getenv.*|self\..*|request\..*|config[.\[(].*|settings\..*|args\..*|your[_\-].*|.*_here|my[_\-]?(?:api|secret|pass|token).*|"
    rb"x{3,}.*|.*x{6,}.*|\.{3,}|(?:foo|bar|baz)+|abc123?|1234?5?6?7?8?9?0?|string|str|none|input\(.*|prompt\(.*|get_?pass.*|.*\(\)?|.*example.*|.*placeholder.*|.*changeme.*|.*dummy.*|.*redacted.*|null|undefined",
    re.ASCII,
)  # fmt: skip
_STRONG = re.compile(rb"[0-9!@#$%^&*+=~?]", re.ASCII)
_VALUE = re.compile(
    rb"(?i)(?P<how>(?<=[\s\"'`\])])(?:is now|is|was|are|to|as)(?=\s)|[:=]+>?)\s*[\"'`]?(?P<value>[^\s\"'`,;<>]{4,128})[\"'`]?$",
    re.ASCII,
)
_IDENTIFIER = re.compile(rb"[A-Za-z_][A-Za-z_.]*(?:\(|$)", re.ASCII)
_PORT = re.compile(rb"\d{1,5}/", re.ASCII)
_UUID = re.compile(rb"(?i)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)
_PUBLIC = re.compile(
    rb"(?i)public|publishable|sha(?:256|512|1)|md5|checksum|digest|commit|primary|foreign|cache|partition|sort|keyword|key_?id|token_?type|max_?tokens?|tokenizer|csrf|page_?token|next_?token|monkey|license",
    re.ASCII,
)


def _password(text: bytes, start: int, end: int) -> int | None:
    """A password in prose or code: stated, and not a word that speaks of passwords."""
    found = _VALUE.search(text[start:end])
    if found is None or _part_of_a_word(text, start):
        return None
    raw = found["value"]
    value = raw.rstrip(b".)!?]}") or raw
    if value.lower() in _PLACEHOLDERS or _FILLED.fullmatch(value) or len(value) < 4:
        return None
    assigned = found["how"][:1] in (b":", b"=")
    strong = _STRONG.search(raw) is not None
    quoted = text[end - 1 : end] in (b'"', b"'", b"`")
    if not (strong or quoted or (assigned and len(value) >= 6)):
        return None
    if assigned and not strong and not quoted and b"." in value:  # a.b.c is a variable
        return None
    return end


def _part_of_a_word(text: bytes, start: int) -> bool:
    """Whether it is the pass of bypass or compass."""
    return (
        text[start + 4 : start + 5].lower() not in (b"w", b"p", b"c")
        and text[start : start + 4].lower() == b"pass"
        and text[max(0, start - 1) : start].isalpha()
    )


def _generic(text: bytes, start: int, end: int) -> int | None:
    """A key in a configuration: random enough, and not public by its name."""
    found = re.search(rb"[\"'`]?([A-Za-z0-9_\-+/=.~!@#$%^&*]{10,200})[\"'`]?$", text[start:end])
    if found is None or _PUBLIC.search(text[max(0, start - 12) : start + found.start()]):
        return None
    value = found[1]
    if _FILLED.fullmatch(value) or value.lower() in _PLACEHOLDERS or _UUID.fullmatch(value) or _IDENTIFIER.fullmatch(value):
        return None
    if not any(48 <= c <= 57 for c in value) or entropy(value) < 3.2:
        return None
    return end


def _connection(text: bytes, start: int, end: int) -> int | None:
    found = re.search(rb"://[^\s:/@\"']*:([^\s@\"']{1,128})@", text[start:end])
    if (
        found is None
        or found[1].lower() in (b"password", b"pass", b"secret", b"pwd", b"xxx")
        or _FILLED.fullmatch(found[1])
        or _PORT.match(found[1])
    ):
        return None
    return end


def _basic(text: bytes, start: int, end: int) -> int | None:
    value = text[start:end].split()[-1]
    return None if _FILLED.fullmatch(value) or entropy(value) < 2.5 else end


_KEYWORD = r"(?:api[_\- ]?key|apikey|secret[_\- ]?key|access[_\- ]?key|auth[_\- ]?key|client[_\- ]?secret|app[_\- ]?secret|consumer[_\- ]?secret|auth[_\- ]?token|access[_\- ]?token|refresh[_\- ]?token|bearer[_\- ]?token|api[_\- ]?token|api[_\- ]?secret|private[_\- ]?key|encryption[_\- ]?key|signing[_\- ]?key|master[_\- ]?key|account[_\- ]?key|shared[_\- ]?(?:access[_\- ]?)?key|service[_\- ]?key|webhook[_\- ]?secret|token|secret|credential)s?"
RULES = (
    Rule(
        "passwords.private_key", "PRIVATE_KEY", "credential", r"-----BEGIN[ A-Z0-9_\-]{0,60}PRIVATE KEY(?: BLOCK)?-----(?:[A-Za-z0-9+/=\s\\n:,\-]*-----END[ A-Z0-9_\-]{0,60}PRIVATE KEY(?: BLOCK)?-----)?", 1.0,
        matches=("-----BEGIN RSA PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----\nMIIEvQ\n-----END PRIVATE KEY-----", "-----BEGIN PGP PRIVATE KEY BLOCK-----"), misses=("-----BEGIN PUBLIC KEY-----", "-----BEGIN CERTIFICATE-----"),
        trigger="PRIVATE KEY",
    ),
    Rule(
        "passwords.putty", "PRIVATE_KEY", "credential", r"PuTTY-User-Key-File-\d: ", 1.0, matches=("PuTTY-User-Key-File-2: ssh-rsa",), misses=("PuTTY",),
    ),
    Rule(
        "passwords.aws_secret_key", "AWS_SECRET_KEY", "credential", r"(?i:(?:aws|secret)[a-z_\- .]{0,24}(?:secret|access|key)[a-z_\- .\"']{0,24}(?:[=:]|is|=>)\s{0,3}[\"']?[A-Za-z0-9/+=]{40})", 1.0,
        matches=("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",), misses=("the aws secret manager", "aws_secret_access_key = " + "x" * 40),
        check=lambda text, start, end: end if entropy(text[end - 40 : end]) > 3.2 else None, trigger="(?i:aws|secret)",
    ),
    Rule(
        "passwords.connection_string", "CONNECTION_STRING", "credential", r"[A-Za-z][A-Za-z0-9+.\-]{1,24}://[^\s:/@\"']{0,64}:[^\s@\"']{1,128}@[A-Za-z0-9.\-\[\]_]{1,253}", 1.0,
        matches=("postgres://app:s3cr3t@db.example.com/x", "amqp://u:passw0rd@host", "https://bob:hunter22@git.example.com/r.git", "redis://:p4ssw0rd@cache:6379"),
        misses=("https://example.com:8080/a@b", "http://host/", "postgres://user:password@host/db", "postgres://user:${PASS}@host/db"), check=_connection, edges=WORD, trigger=r"://[^\s:/@\"']{0,64}:[^\s@\"']{1,128}@",
    ),
    Rule(
        "passwords.odbc", "CONNECTION_STRING", "credential", r"(?i:(?:server|data source|host|accountname|endpoint|driver|user id|uid|jdbc:[a-z]{2,12})[^\n]{0,400};\s?(?:password|pwd|accountkey|sharedaccesskey)=[^\s;\"']{4,200})", 1.0,
        matches=("Server=db;Database=x;User Id=sa;Password=Tr0ub4dor;", "DefaultEndpointsProtocol=https;AccountName=acme;AccountKey=q9k3L8aZ7xYw2vU5tS1rQ4pO6nM0bC=="), misses=("Server=db;Database=x;Integrated Security=true", "Server=db;Password=<password>"),
        check=lambda text, start, end: None if _FILLED.fullmatch(text[start:end].rsplit(b"=", 1)[-1]) else end, trigger=r"(?i:;\s?(?:password|pwd|accountkey|sharedaccesskey)=)",
    ),
    Rule(
        "passwords.authorization", "HTTP_CREDENTIAL", "credential", r"(?i:(?:authorization|x-api-key|x-auth-token|api-key|private-token)[\"']?\s?[:=]\s?[\"']?(?:basic |bearer |token |apikey )?\s?[A-Za-z0-9+/=._\-~]{12,1000})", 1.0,
        matches=("Authorization: Basic dXNlcjpwYXNzd29yZA==", 'curl -H "X-Api-Key: 9f8e7d6c5b4a39281706"', "authorization: Bearer abcdef0123456789"), misses=("authorization: none", "Authorization: Bearer <token>", "Authorization: Bearer $TOKEN"),
        check=_basic, trigger=r"(?i:authorization|x-api-key|x-auth-token|api-key|private-token)",
    ),
    Rule(
        "passwords.curl_user", "HTTP_CREDENTIAL", "credential", r"(?i:(?:curl|wget|http)[^\n]{0,200} (?:-u|--user|--password)[ =][\"']?[^\s:\"']{1,64}:[^\s\"']{3,64})", 0.95,
        matches=("curl -u admin:S3cret99 https://x",), misses=("curl -u $USER:$PASS https://x",), check=lambda text, start, end: None if b"$" in text[start:end] or text[start:end].rstrip().endswith(b"password") else end, trigger=r"(?i:curl|wget)",
    ),
    Rule(
        "passwords.netrc", "PASSWORD", "credential", r"machine \S{1,120} login \S{1,80} password \S{3,120}", 0.95, matches=("machine x.example.com login bob password hunter22",), misses=("the machine login",), trigger="machine ",
    ),
    Rule(
        "passwords.hash", "PASSWORD_HASH", "credential", r"\$2[abxy]\$\d\d\$[./A-Za-z0-9]{53}|\$(?:1|5|6|y|apr1)\$(?:rounds=\d+\$)?[./A-Za-z0-9]{1,16}\$[./A-Za-z0-9]{22,90}|\$argon2(?:id|i|d)\$v=\d+\$m=\d+,t=\d+,p=\d+\$[A-Za-z0-9+/]{8,}\$[A-Za-z0-9+/]{16,}", 0.95,
        matches=("$2b$12$" + "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7aB3dE6gH9jK2mN5pQ8sT1vW4yZ"[:53],), misses=("$5 and $6",), trigger=r"\$(?:2[abxy]|1|5|6|y|apr1|argon2)",
    ),
    Rule(
        "passwords.gcp_service_account", "PRIVATE_KEY", "credential", r"\"private_key(?:_id)?\"\s?:\s?\"[^\"]{20,}\"", 0.95, matches=('"private_key": "-----BEGIN PRIVATE KEY-----MIIEvQIBADANBg"',), misses=('"private_key": ""',), trigger="private_key",
    ),
    Rule(
        "passwords.password", "PASSWORD", "credential",
        r"(?i:(?:password|passwd|passwort|passphrase|passcode|pwd|kennwort|contrase\xc3\xb1a|mot de passe|db_pass|pass)(?: for [\w.@\- ]{1,40}?| of [\w.@\- ]{1,40}?| on [\w.@\- ]{1,40}?)?[\"'`\])]?\s{0,3}(?:is now|is|was|to|as|:=|=>|:|==?)\s{0,3}[\"'`]?[^\s\"'`,;<>]{4,128}[\"'`]?)", 0.9,
        matches=("the password is hunter2!", "password: correcthorse", 'db_password = "s3cretPW"', "PWD=Tr0ub4dor", "the admin password for db01 is Winter2024!", "passphrase: 'bluehorse'", "I set my password to Sommer99"),
        misses=("the password is wrong", "password: ******", "password = ${DB_PASSWORD}", "password is required", "Password: <your password>", "password = os.environ['X']", "password=password", "the password was changed", "bypass: enabled"),
        check=_password, trigger=r"(?i:pass|pwd|kennwort|contrase)", edges=b"",
    ),
    Rule(
        "passwords.user_and_password", "PASSWORD", "credential", r"(?i:(?:user(?:name)?|login|credentials?|log in with|creds?|anmelden mit)\s?(?:is|:|=|are)?\s?[\"']?[\w.@\-]{2,40}[\"']?\s?(?:/|and|,|with|:)\s?(?:the )?(?:password|pass|pw|pwd)?\s?(?:is|:|=)?\s?[\"'`]?[^\s\"'`,;]{6,64})", 0.9,
        matches=("login: admin / P@ssw0rd1", "username bob and password Tr0ub4dor&3"), misses=("user name and password required", "login and registration"),
        check=lambda text, start, end: end if re.search(rb"(?:[A-Za-z].*\d.*|\d.*[A-Za-z].*)", text[start:end].replace(b"/", b" ").split()[-1].strip(b"\"'`.,)"))
        and (re.search(rb"[!@#$%^&*+=~?]", text[start:end].split()[-1]) or re.search(rb"(?i)pass|pw", text[start:end])) and not _FILLED.fullmatch(text[start:end].split()[-1]) else None,
        trigger=r"(?i:user|login|cred|log in|anmelden)", edges=WORD,
    ),
    Rule(
        "passwords.generic", "API_KEY", "credential", r"(?i:" + _KEYWORD + r"[\"'`\])]{0,2}\s{0,3}(?:is|was|:=|=>|==?|:|,)\s{0,3}(?:bearer |basic )?[\"'`]?[A-Za-z0-9_\-+/=.~!@#$%^&*]{10,200}[\"'`]?)", 0.9,
        matches=("api_key = 'a9F3kL0pQ7zX2vB8'", '"client_secret": "Zx81-kfLm2pQ0vT7"', "my API token is 7f3b9c2e8d1a4065be"),
        misses=("api_key = os.environ['KEY']", "token: 550e8400-e29b-41d4-a716-446655440000", "publishable_key = a9F3kL0pQ7zX2vB8", "api_key = YOUR_API_KEY_HERE", "secret: xxxxxxxxxxxxxxxx", "max_tokens = 1000000000"),
        check=_generic, trigger=r"(?i:key|secret|token|credential)",
    ),
)  # fmt: skip
