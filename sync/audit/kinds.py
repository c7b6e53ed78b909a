"""The kinds of records that are about a request, and which fields each has.

`decided` is on disk before anything of the request leaves the process that admitted it. Fields:
request, trace, principal, key, task, model, declared, bundle, via, decision, level, found,
categories, classifier_failed, classifier_model, allowed, rules, zones, regions, agent, zone, region,
forwarded (whether a site sends it on to its hub), redacted, tries; at a site also mode and
contact_age_s: whether its hub was in reach, and for how many seconds it had not been heard.

`tried` is on disk before a further agent gets the request. Fields: all of `decided`, with the new place,
tried: an (agent, zone, code) for each that had it before, and code: the one with which the last of them failed.

`request` is the outcome, once, on each way out. Fields: all of `decided`, and cache, outcome, code,
finish, prompt_tokens, completion_tokens, estimated (whether nobody has counted the tokens),
prompt_digest, answer_digest, ms, and tried: an (agent, zone, code) for each agent that had it; late
where it could not be written when it came about. What is refused before it is decided has this alone;
one with the field more stands for so many refusals of one code to one principal within a minute.

`run` is what an agent ran, recorded by the agent itself.
"""

from __future__ import annotations

DECIDED = "decided"
TRIED = "tried"
REQUEST = "request"
RUN = "run"
EPOCH = "epoch"
"""The first record of a journal: why it begins."""
INTERRUPTED = "interrupted"
"""The outcome, and its code, of a request whose process ended before it recorded another."""
