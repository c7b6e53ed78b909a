"""Keys and tokens that a vendor gives a shape of its own. The patterns are ours; which kinds there are was learned from gitleaks.

Keys that are public by design (Stripe's pk_, Firebase and Maps keys in pages, Sentry DSNs without a secret) are not secrets.
"""

from __future__ import annotations

import math
import re
from collections import Counter

from classifiers.matching import Check
from classifiers.recognizers.rule import WORD, Rule

TOKEN = WORD + b"-"
_FILLER = re.compile(
    rb"(?i)x{6,}|\*{4,}|\.{4,}|0{10,}|(?:1234567890){2}|your[_-]|<|\$\{|\{\{|placeholder|changeme|redacted|dummy|sample", re.ASCII
)


def entropy(value: bytes) -> float:
    """Bits a character (Shannon 1948)."""
    count = len(value)
    return -sum(n / count * math.log2(n / count) for n in Counter(value).values())


def random_looking(least: float) -> Check:
    """A check that the match is no filler and has so many bits a character."""

    def check(text: bytes, start: int, end: int) -> int | None:
        value = text[start:end]
        return end if entropy(value) >= least and not _FILLER.search(value) else None

    return check


def _a(count: int, alphabet: str = "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7") -> str:
    """An invented tail of so many characters, for examples."""
    return (alphabet * (count // len(alphabet) + 1))[:count]


_HEX = "3f9a1c7e5b2d8046"
ALPHABETS = ("aB3dE6gH9jK2mN5pQ8sT1vW4yZ7", _HEX, "aBcDeFgHiJkLmNoPqRsTuVwXyZ", "ABC3DEF6GHJ9KLM2NPQ5", "ABC3DEF6", "QWE7RTY2UIO9")
"""What the examples' invented parts are made of."""


def _kind(
    name: str, pattern: str, example: str, miss: str = "", least: float = 2.8, trigger: str = "", kind: str = "API_KEY"
) -> Rule:
    return Rule(
        f"tokens.{name}", kind, "credential", pattern, 1.0, matches=(f"use {example} here",), misses=(miss,) if miss else (),
        check=random_looking(least), edges=TOKEN, trigger=trigger,
    )  # fmt: skip


RULES = (
    _kind("aws_access_key", r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}", "AKIAIOSFODNN7EXAMPLE", "AKIA123", 2.5, kind="AWS_ACCESS_KEY"),
    _kind("aws_access_key_other", r"(?:AKIA|ASIA)[A-Z0-9]{16}", "ASIAQWERTYUIOP123456", "XAKIAIOSFODNN7EXAMPLEX", 2.5, kind="AWS_ACCESS_KEY"),
    _kind("aws_bedrock", r"ABSK[A-Za-z0-9+/]{100,260}={0,2}", "ABSK" + _a(110), trigger="ABSK"),
    _kind("github", r"gh[pousr]_[A-Za-z0-9]{36,255}", "ghp_" + _a(36), "ghp_short", trigger="gh[pousr]_[A-Za-z0-9]{8}", kind="GITHUB_TOKEN"),
    _kind("github_fine", r"github_pat_[A-Za-z0-9_]{60,255}", "github_pat_" + _a(82), trigger="github_pat_", kind="GITHUB_TOKEN"),
    _kind("gitlab", r"gl(?:pat|dt|rt|ptt|ft|imt|agent|soat|oas|cbt)-[0-9A-Za-z_\-]{20,64}", "glpat-" + _a(20), "glpat-short", trigger="gl[a-z]{2,5}-"),
    _kind("slack", r"xox[abeprs]-(?:[0-9A-Za-z]{1,24}-){0,4}[0-9A-Za-z]{6,64}", "xoxb-1234567890-" + _a(24), "xoxb-x", trigger="xox[abeprs]-"),
    _kind("slack_app", r"xapp-\d-[A-Z0-9]+-\d+-[a-f0-9]{40,80}", "xapp-1-A012-345-" + _a(64, _HEX), trigger="xapp-"),
    _kind("slack_webhook", r"hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9+/]{40,60}", "hooks.slack.com/services/T0123ABCD/B0123ABCD/" + _a(24), trigger=r"hooks\.slack"),
    _kind("stripe", r"(?:sk|rk)_(?:live|test|prod)_[0-9A-Za-z]{10,99}", "sk_live_" + _a(24), "pk_live_" + _a(24), trigger="[sr]k_(?:live|test|prod)_"),
    _kind("stripe_webhook", r"whsec_[A-Za-z0-9+/]{24,64}", "whsec_" + _a(32), trigger="whsec_"),
    _kind("anthropic", r"sk-ant-(?:api|admin)\d{2}-[A-Za-z0-9_\-]{80,120}", "sk-ant-api03-" + _a(93), trigger="sk-ant-"),
    _kind("openai", r"sk-(?:proj-|svcacct-|admin-|ant-|or-v1-)?[A-Za-z0-9_\-]{20,220}", "sk-proj-" + _a(48), "task-1234567890123456789012", 3.2, trigger="sk-[A-Za-z0-9]"),
    _kind("google_oauth", r"ya29\.[0-9A-Za-z_\-]{20,250}", "ya29." + _a(60), trigger=r"ya29\."),
    _kind("google_api", r"AIza[0-9A-Za-z_\-]{35}", "AIza" + _a(35), "AIzaShort", trigger="AIza"),
    _kind("google_client_secret", r"GOCSPX-[0-9A-Za-z_\-]{28}", "GOCSPX-" + _a(28), trigger="GOCSPX-"),
    _kind("azure_client_secret", r"[A-Za-z0-9_~.]{3}\dQ~[A-Za-z0-9_~.\-]{31,34}", "abc8Q~" + _a(34), trigger=r"\dQ~"),
    _kind("twilio", r"SK[0-9a-f]{32}", "SK" + _a(32, _HEX), "SK" + "0" * 32, 3.0),
    _kind("sendgrid", r"SG\.[A-Za-z0-9_\-]{16,32}\.[A-Za-z0-9_\-]{16,64}", "SG." + _a(22) + "." + _a(43), trigger=r"SG\."),
    _kind("mailgun", r"key-[0-9a-f]{32}", "key-" + _a(32, _HEX), trigger="key-[0-9a-f]{8}"),
    _kind("mailchimp", r"[0-9a-f]{32}-us\d{1,2}", _a(32, _HEX) + "-us14", trigger=r"[0-9a-f]{8}-us\d"),
    _kind("sendinblue", r"xkeysib-[a-f0-9]{64}-[A-Za-z0-9]{16}", "xkeysib-" + _a(64, _HEX) + "-" + _a(16), trigger="xkeysib-"),
    _kind("npm", r"npm_[A-Za-z0-9]{36}", "npm_" + _a(36), "npm_install", trigger="npm_[A-Za-z0-9]{8}"),
    _kind("pypi", r"pypi-AgEI[A-Za-z0-9_\-]{50,250}", "pypi-AgEIcHlwaS5vcmc" + _a(60), trigger="pypi-AgEI"),
    _kind("rubygems", r"rubygems_[a-f0-9]{48}", "rubygems_" + _a(48, _HEX), trigger="rubygems_[0-9a-f]{8}"),
    _kind("docker", r"dckr_(?:pat|oat)_[A-Za-z0-9_\-]{20,64}", "dckr_pat_" + _a(27), trigger="dckr_"),
    _kind("digitalocean", r"do[opr]_v1_[a-f0-9]{64}", "dop_v1_" + _a(64, _HEX), trigger="do[opr]_v1_"),
    _kind("shopify", r"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}", "shpat_" + _a(32, _HEX), trigger="shp(?:at|ca|pa|ss)_"),
    _kind("square", r"(?:sq0[a-z]{3}-[0-9A-Za-z_\-]{22,43}|EAAA[A-Za-z0-9_\-]{56,64})", "sq0atp-" + _a(22), trigger="sq0[a-z]{3}-|EAAA"),
    _kind("telegram", r"\d{8,10}:AA[A-Za-z0-9_\-]{32,33}", "123456789:AA" + _a(33), trigger=r"\d:AA"),
    _kind("discord_token", r"[MNO][A-Za-z0-9_\-]{23,27}\.[A-Za-z0-9_\-]{6}\.[A-Za-z0-9_\-]{27,40}", "M" + _a(24) + "." + _a(6) + "." + _a(30), trigger=r"[A-Za-z0-9_\-]{8}\.[A-Za-z0-9_\-]{6}\.[A-Za-z0-9_\-]{8}"),
    _kind("discord_webhook", r"discord(?:app)?\.com/api/webhooks/\d{10,24}/[A-Za-z0-9_\-]{20,100}", "discord.com/api/webhooks/123456789012345678/" + _a(60), trigger=r"api/webhooks/"),
    _kind("teams_webhook", r"[a-z0-9\-]{1,60}\.webhook\.office\.com/webhookb2/[a-z0-9@\-]{20,120}/IncomingWebhook/[a-z0-9]{20,40}/[a-z0-9\-]{20,60}", "acme.webhook.office.com/webhookb2/" + _a(36, _HEX) + "/IncomingWebhook/" + _a(32, _HEX) + "/" + _a(36, _HEX), trigger=r"webhook\.office"),
    _kind("huggingface", r"(?:hf|api_org)_[A-Za-z]{34,40}", "hf_" + _a(34, "aBcDeFgHiJkLmNoPqRsTuVwXyZ"), "hf_hub_download", trigger="(?:hf|api_org)_[A-Za-z]{12}"),
    _kind("databricks", r"dapi[a-f0-9]{32}(?:-\d)?", "dapi" + _a(32, _HEX), trigger="dapi[a-f0-9]{8}"),
    _kind("vault", r"hv[sbr]\.[A-Za-z0-9_\-]{24,300}", "hvs." + _a(90), trigger=r"hv[sbr]\."),
    _kind("terraform", r"[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_\-=]{60,70}", _a(14) + ".atlasv1." + _a(64), trigger=r"\.atlasv1\."),
    _kind("grafana", r"(?:glsa_[A-Za-z0-9]{32}_[A-Fa-f0-9]{8}|glc_[A-Za-z0-9+/]{32,400})", "glsa_" + _a(32) + "_" + _a(8, _HEX), trigger="glsa_|glc_"),
    _kind("newrelic", r"NR(?:AK|JS|II|RA)-[A-Za-z0-9_\-]{19,42}", "NRAK-" + _a(27, "ABC3DEF6GHJ9KLM2NPQ5"), trigger="NR(?:AK|JS|II|RA)-"),
    _kind("dynatrace", r"dt0[a-z]\d{2}\.[A-Z0-9]{24}\.[A-Z0-9]{64}", "dt0c01." + _a(24, "ABC3DEF6") + "." + _a(64, "QWE7RTY2UIO9"), trigger=r"dt0[a-z]\d"),
    _kind("sentry", r"sntry[su]_[A-Za-z0-9=_+/\-]{40,250}", "sntrys_" + _a(80), trigger="sntry[su]_"),
    _kind("linear", r"lin_(?:api|oauth)_[A-Za-z0-9]{32,64}", "lin_api_" + _a(40), trigger="lin_(?:api|oauth)_"),
    _kind("notion", r"(?:ntn_[A-Za-z0-9]{40,60}|secret_[A-Za-z0-9]{43})", "ntn_" + _a(46), trigger="ntn_|secret_[A-Za-z0-9]{12}"),
    _kind("atlassian", r"AT(?:ATT|CTT)3[A-Za-z0-9_\-=]{50,250}", "ATATT3" + _a(180), trigger="AT(?:ATT|CTT)3"),
    _kind("airtable", r"pat[A-Za-z0-9]{14}\.[a-f0-9]{64}", "pat" + _a(14) + "." + _a(64, _HEX), trigger=r"pat[A-Za-z0-9]{14}\."),
    _kind("figma", r"fig[dour]_[A-Za-z0-9_\-]{36,60}", "figd_" + _a(40), trigger="fig[dour]_"),
    _kind("postman", r"PMAK-[a-f0-9]{24}-[a-f0-9]{34}", "PMAK-" + _a(24, _HEX) + "-" + _a(34, _HEX), trigger="PMAK-"),
    _kind("planetscale", r"pscale_(?:tkn|pw|oauth)_[A-Za-z0-9=_.\-]{32,64}", "pscale_tkn_" + _a(43), trigger="pscale_"),
    _kind("doppler", r"dp\.(?:pt|st|ct|sa|scim|audit)\.[A-Za-z0-9._\-]{40,60}", "dp.pt." + _a(43), trigger=r"dp\.(?:pt|st|ct|sa)"),
    _kind("fly", r"fo1_[A-Za-z0-9_\-]{43}|fm[12][ar]?_[A-Za-z0-9+/=_\-]{80,400}", "fo1_" + _a(43), trigger="fo1_|fm[12]"),
    _kind("facebook", r"EAA[A-Za-z0-9]{40,300}", "EAA" + _a(90), trigger="EAA[A-Za-z0-9]{12}"),
    _kind("easypost", r"EZ[AT]K[A-Za-z0-9]{54}", "EZAK" + _a(54), trigger="EZ[AT]K"),
    _kind("duffel", r"duffel_(?:test|live)_[A-Za-z0-9_\-=]{43}", "duffel_live_" + _a(43), trigger="duffel_"),
    _kind("dropbox", r"sl\.[A-Za-z0-9_\-]{130,160}", "sl." + _a(136), trigger=r"\bsl\.[A-Za-z0-9_\-]{20}"),
    _kind("perplexity", r"(?:pplx|gsk|xai|r8|fw|nvapi|csk)[-_][A-Za-z0-9_\-]{32,100}", "gsk_" + _a(52), least=3.2, trigger="(?:pplx|gsk|xai|r8|fw|nvapi|csk)[-_][A-Za-z0-9]{16}"),
    _kind("cloudflare_origin", r"v1\.0-[a-f0-9]{24}-[a-f0-9]{146}", "v1.0-" + _a(24, _HEX) + "-" + _a(146, _HEX), trigger=r"v1\.0-[a-f0-9]{12}"),
    _kind("age", r"AGE-SECRET-KEY-1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58}", "AGE-SECRET-KEY-1" + _a(58, "QPZRY9X8GF2TVDW0"), trigger="AGE-SECRET-KEY"),
    _kind("onepassword", r"(?:ops_eyJ[A-Za-z0-9+/]{100,500}={0,2}|A3-[A-Z0-9]{6}-(?:[A-Z0-9]{5,11}-){3,4}[A-Z0-9]{5})", "ops_eyJ" + _a(150), trigger="ops_eyJ|A3-[A-Z0-9]{6}-"),
    _kind("prefect", r"p(?:nu|nb)_[A-Za-z0-9]{36}", "pnu_" + _a(36), trigger="p(?:nu|nb)_[A-Za-z0-9]{12}"),
    _kind("ringfence", r"rf_(?:live|admin)_[0-9A-Za-z]{10}_[0-9A-Za-z]{49}", "rf_live_0123456789_" + _a(49), "rf_live_short", trigger="rf_(?:live|admin)_", kind="RINGFENCE_KEY"),
    _kind("jwt", r"ey[A-Za-z0-9_\-]{12,}\.ey[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmN", "eyJhbGciOiJIUzI1NiJ9", trigger=r"ey[A-Za-z0-9_\-]{12,}\.ey", kind="JWT"),
)  # fmt: skip
