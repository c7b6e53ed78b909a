"""The prompts that the demonstration sends, and the fate that each must have."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import aiohttp

FRANKFURT, DUBLIN, VIRGINIA = "frankfurt-onprem", "dublin-private", "virginia-edge"


@dataclass(frozen=True, slots=True)
class Step:
    """One request and what must become of it. `agent` empty: nobody may have run it."""

    prompt: str
    level: str = ""
    agent: str = ""
    status: int = 200
    code: str = ""
    cache: str = ""
    model: str = "guide"
    stream: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    says: str = ""
    """Words that the answer must hold."""


@dataclass(slots=True)
class Row:
    """What became of one request."""

    step: Step
    status: int = 0
    level: str = ""
    categories: str = ""
    decision: str = ""
    agent: str = ""
    region: str = ""
    cache: str = ""
    ms: float = 0.0
    answer: str = ""
    code: str = ""

    @property
    def as_expected(self) -> bool:
        step = self.step
        return (
            self.status == step.status
            and self.agent == step.agent
            and self.code == step.code
            and (not step.level or self.level == step.level)
            and (not step.cache or self.cache == step.cache)
            and step.says.lower() in self.answer.lower()
        )


ALL_UP = [
    Step("What is Ringfence?", "public", VIRGINIA, cache="miss", says="where each prompt may be processed"),
    Step("What is Ringfence?", "public", VIRGINIA, cache="hit", says="where each prompt may be processed"),
    Step("What happens when the line is cut?", "public", VIRGINIA, stream=True, says="journals everything"),
    Step("The server 10.20.30.40 is slow, where is this processed?", "internal", DUBLIN, says="internal"),
    Step("Please draft a mail to anna.meyer@bank.test", "internal", DUBLIN),
    Step("The customer's date of birth is 1984-03-12. Who may see it?", "confidential", DUBLIN, says="confidential"),
    Step("How does fail over work?", "confidential", DUBLIN, headers={"x-ringfence-level": "confidential"}),
    Step("My card number is 4111 1111 1111 1111, who can see this?", "restricted", FRANKFURT, cache="off", says="restricted"),
    Step("Summarise the record of the patient with MRN 00482913", "restricted", FRANKFURT, says="health data"),
    Step("The supplier's account is DE89 3704 0044 0532 0130 00. May this go to the cloud?", "restricted", FRANKFURT, stream=True),
    Step("The password is hunter2!, is that a problem?", "restricted", status=403, code="policy_denied"),
    Step("What is a zone?", status=404, code="model_not_found", model="cloud-only"),
    Step("How do agents keep their records?", "public", VIRGINIA, model="guide-embed"),
]
FRANKFURT_DOWN = [
    Step("My social security number is 536-22-8726, where does this go?", "restricted", status=503, code="no_eligible_agent"),
    Step("Which levels of sensitivity exist?", "public", VIRGINIA, says="public, internal, confidential"),
]


async def send(http: aiohttp.ClientSession, url: str, step: Step) -> Row:
    """Sends one step, and asks first what would happen to it."""
    row = Row(step)
    embed = step.model == "guide-embed"
    body: dict[str, object] = {"model": step.model}
    body |= {"input": step.prompt} if embed else {"messages": [{"role": "user", "content": step.prompt}], "stream": step.stream}
    asked = {name: value for name, value in body.items() if name != "stream"}
    async with http.post(f"{url}/v1/decisions", json=asked, headers=step.headers) as response:
        told = await response.json()
        if response.status == 200:
            row.level, row.categories = told["level"], ", ".join(told["categories"])
            row.decision = ", ".join(told["zones"]) if told["allowed"] else f"denied: {told['reasons'][-1]['why']}"
    began = time.perf_counter()
    path = "embeddings" if embed else "chat/completions"
    async with http.post(f"{url}/v1/{path}", json=body, headers=step.headers) as response:
        row.status = response.status
        row.agent = response.headers.get("x-ringfence-agent", "")
        row.region = response.headers.get("x-ringfence-region", "")
        row.cache = response.headers.get("x-ringfence-cache", "")
        if step.stream and response.status == 200:
            row.answer, row.ms = await _read_stream(response, began)
            return row
        answer = await response.json()
    row.ms = (time.perf_counter() - began) * 1000
    if response.status != 200:
        row.code, row.answer = answer["error"]["code"], answer["error"]["message"]
        row.decision = row.decision or "refused"
    elif embed:
        vector = answer["data"][0]["embedding"]
        row.answer = f"[{', '.join(f'{x:.2f}' for x in vector[:3])}, …] {len(vector)} dimensions"
    else:
        row.answer = answer["choices"][0]["message"]["content"]
    return row


async def _read_stream(response: aiohttp.ClientResponse, began: float) -> tuple[str, float]:
    """The text of a streamed answer, and the milliseconds to its first piece."""
    import json

    text, first = "", 0.0
    async for line in response.content:
        if not line.startswith(b"data: ") or line.strip() == b"data: [DONE]":
            continue
        event = json.loads(line[6:])
        if "error" in event:
            return event["error"]["message"], first
        for choice in event["choices"]:
            first = first or (time.perf_counter() - began) * 1000
            text += choice["delta"].get("content") or ""
    return text, first
