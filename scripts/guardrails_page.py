"""What guardrails do and how well, as a document: ``docs/GUARDRAILS.md``.

Precision and recall are counted each time it is made, over ``tests/guard_corpus/*.json``.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, get_args

from msgspec import Raw, Struct

from hub.config.rule_checks import CHECK_KEYS
from hub.config.rule_sections import GuardrailSection
from hub.domain.catalog import CapabilityId
from hub.domain.guarding import Context, Verdict
from hub.domain.rules import Attach, CheckName, Direction, GuardrailSpec
from hub.guard.callouts import Callouts
from hub.guard.checks import made
from hub.guard.content import Content
from hub.guard.formats import FORMATS, parts_of
from hub.guard.protocol import Guard
from tests.project import ROOT

CORPUS: Final = ROOT / "tests" / "guard_corpus"


class About(Struct, frozen=True):
    """A check in words."""

    does: str
    cannot: str


CHECKS: Final[Mapping[CheckName, About]] = {
    "secrets": About(
        "Finds keys and tokens by the form their issuers give them, private keys in PEM, and values "
        "that are called a secret and look random.",
        "A secret of no known form under a harmless name is not found; neither is one that is split "
        "over several strings or encoded.",
    ),
    "personal_data": About(
        "Finds e-mail addresses, telephone numbers, payment cards, IBANs, US social security numbers "
        "and IP addresses; where a kind has check digits, they must be right.",
        "Names and postal addresses of people need a model and are not found. Numbers "
        "that are written in words, or in pieces over several strings, are not either.",
    ),
    "words": About(
        "Finds words and patterns of your own, thousands in one pass. Patterns are RE2, so that no text "
        "can make them slow. Words are found in other letters that look alike, too.",
        "It knows no inflections and no synonyms.",
    ),
    "injection": About(
        "Finds phrases that are known to steer models: orders to ignore instructions, marks of roles, "
        "text addressed to a model, demands of secrecy, sending conversations or keys away, hidden "
        "markup with such words; in several languages, in look-alike letters, in Base64. `sensitivity: "
        "low` takes only phrases that hardly mean anything else, `high` takes everything that might. "
        "What is redacted is the phrase with the rest of its sentence; `block` is the better action.",
        "It is a heuristic. Whoever words the same differently gets through, as the corpus shows, and "
        "text about injections looks like one. It makes attacks dearer, not impossible: grants and "
        "limits are what holds. Languages beyond those in the corpus are not known.",
    ),
    "hidden_text": About(
        "Finds characters that models read and people do not see: runs of zero-width characters, tag "
        "characters outside of flags, smuggled variation selectors, and controls that turn text around "
        "where nothing in it is written from right to left. What Arabic, Hebrew, Indic and Thai "
        "writing, ideographs and emoji need is left alone.",
        "Single invisible characters between words are left alone, as web pages are full of them; a "
        "slow leak of one per word passes. White text on white ground is markup, not characters.",
    ),
    "json_schema": About(
        "Compares the arguments of a call with its tool's `inputSchema`, and the `structuredContent` of a "
        "result with the `outputSchema` (2020-12 unless `$schema` says otherwise). A schema that "
        "cannot be used, as it is invalid or refers to another document, blocks; nothing is fetched.",
        "`format` is a note, not a check. Schemas that would take too long to apply are refused, yet time "
        "still grows with the product of schema and value. Results with `isError` promise nothing.",
    ),
    "size": About(
        "Limits the bytes and the nesting of the JSON of a request or a result.",
        "It only blocks.",
    ),
    "allowed_values": About(
        "Limits which values named arguments may have, on `request` and, for the same names in "
        "`structuredContent`, on `response`. A dotted path leads into objects and arrays; of an array, "
        "each item must be allowed; no values at all means that the argument may not be given.",
        "An argument that is absent passes: whether it is required is the schema's business.",
    ),
    "urls": About(
        "Finds URLs, those in others and percent-encoded ones too, and lets hosts pass that are on the "
        "list. Hosts are compared as programs read them: without user names, in Punycode, addresses "
        "in any notation; where programs differ, each reading must be on the list. Schemes that are no "
        "network's (`orders://list`) count only if what follows looks like a host.",
        "Hosts without a scheme, `//` or `www.` in front are words and pass; so do HTML entities in a scheme "
        "and other disguises that a person has to undo. What a host on the list redirects to is its own.",
    ),
    "webhook": About(
        "Asks a program of yours or of a vendor's; see [the contract](#the-webhook-contract).",
        "It costs a request per content and is waited for, though not longer than `deadline_ms`. It cannot "
        "look at definitions or at text that streams.",
    ),
}

INTRODUCTION: Final = """# Guardrails

A guardrail is a check on content and what is done with what it finds. It is attached to a tenant, group,
principal, virtual server or tool, and looks at what goes to an upstream (`request`), what comes back
(`response`), or how upstreams describe what they offer (`definition`). Off, it costs nothing.

```yaml
guardrails:
  - {name: no-secrets, check: secrets, on: [request, response], action: redact, attach: {virtual_server: dev}}
  - {name: schema, check: json_schema, on: [request], action: block, attach: {tenant: default}}
  - {name: poisoned, check: injection, on: [definition], action: block, attach: {tenant: default}}
  - {name: pilot, check: words, words: [falcon], on: [response], action: block, mode: monitor, attach: {group: staff}}
```

All keys are in [CONFIGURATION.md](CONFIGURATION.md).

## How rules combine

- Content is every string of the JSON, names of members included, and every number of seven characters or
  more, as it goes on the wire. What is cut out is replaced by `[kind]`, a number by a string that says
  so; everything else stays byte for byte what it was.
- What a call sends beside its parameters (`_meta`), what its caller answers to questions, and an upstream's words
  about a failure are content as well. A URI, a reference and `_meta` go on as they came or not at all.
- Guardrails that ask nobody all look at the same content. One that blocks wins; if several do, the one with the
  smallest `order`, then name, is named to the caller, and all are recorded. What is redacted is cut out
  together, so that order does not matter.
- Those that ask others look at what is left, side by side, and combine the same way.
- `action: block` blocks for anything that is found. `action: redact` cuts it out where a check can point at it, and
  blocks where it cannot: a broken schema has no place in the text. `require_approval` blocks until there are
  approvals.
- `mode: monitor` records what would have happened, and nothing happens.
- Content that two programs could read differently, a member that stands twice for one, is blocked by the first
  guardrail that needs to read it.
- A definition in which a guardrail finds anything is held: it is neither listed nor callable, and the
  upstream's status says why. Redacting makes no difference there.

## Streams

Text that streams is held back only as far as it may still become part of something that is looked for: a
few characters of ordinary text, for `urls` a word. What is sent is what redacting the whole text would
have given, however the pieces are cut. `injection`, `json_schema`, `size` and `allowed_values` need the whole, so that
a stream under them is sent at its end. What has gone out cannot be called back.
"""

CONTRACT: Final = """## The webhook contract

Portico sends one `POST` per content, `Content-Type: application/json`, to `url`, with the `headers` of the rule. This
is a request of version 1, shortened:

```json
{question}
```

- `parts` are the strings and long numbers of the content in order, without empty ones; `kind` is `name` for names of members. An `id` is
  the same for the same place in the same content.
- With `secret`, `X-Portico-Signature: t=SECONDS,v1=HEX` is sent: the time in seconds since 1970, and HMAC-SHA256 with
  the secret over the decimal `SECONDS`, a dot, and the body as sent. Refuse old times.

The answer has status 200 and is one of:

```json
{"action": "allow"}
{"action": "redact", "spans": [{"part": "p4", "start": 5, "end": 9, "label": "person"}], "reason": "a name"}
{"action": "block", "reason": "why, for administrators"}
```

- `start` and `end` count characters (Unicode code points) of the part, the end not included. `label` is what is put in
  place, in brackets: 40 letters, digits, `_`, `.` and `-` at the most.
- Unknown members are ignored. Redirects are not followed. An answer may have 1 MiB.
- No answer within `deadline_ms`, connecting included, another status, or an answer that cannot be read or points at
  text that was not sent: `on_error` decides, `block` (the default) or `allow`, which is logged.
- After five failures in a row the program is left alone, for a second at first and a minute at the most, then
  asked once; meanwhile `on_error` decides at once.
- A rule of a tenant's administrator reaches public addresses only; one of the file or of a platform
  administrator reaches what it says.

`format: agentgateway` asks servers written for agentgateway's prompt guards: `POST {url}/request` with
`{"body": {"messages": [...]}}`, `POST {url}/response` with `{"body": {"choices": [...]}}`, one message or choice per part. `pass` lets
through, `reject` blocks, and of a text that comes back masked the piece from the first to the last character
that differs is cut out.
"""


class Score(Struct, frozen=True):
    """How a guard did on cases whose outcome is known, for one kind of finding."""

    kind: str
    found: int
    missed: int
    false: int

    @property
    def precision(self) -> str:
        """Share of what was found that was there."""
        return _share(self.found, self.found + self.false)

    @property
    def recall(self) -> str:
        """Share of what was there that was found."""
        return _share(self.found, self.found + self.missed)


def guardrails() -> str:
    """The document, without the note that it is generated."""
    lines = [INTRODUCTION, *_checks(), *_quality(), CONTRACT.replace("{question}", _question())]
    return "\n".join(lines).rstrip() + "\n"


def scores(path: Path) -> Iterator[Score]:
    """How the guard of a corpus does on it, kind by kind."""
    corpus = json.loads(path.read_text(encoding="utf-8"))
    rule, cases = corpus["rule"], corpus["cases"]
    guard = _guard(rule, corpus["options"])
    expected = [frozenset(case["expect"]) for case in cases]
    kinds = sorted(frozenset[str]().union(*expected))
    found = [_kinds(_verdict(guard, case), rule, kinds) for case in cases]
    for kind in sorted(frozenset(kinds).union(*found)):
        pairs = [
            (kind in wanted, kind in seen) for wanted, seen in zip(expected, found, strict=True)
        ]
        yield Score(
            kind, pairs.count((True, True)), pairs.count((True, False)), pairs.count((False, True))
        )


def _guard(rule: CheckName, options: object) -> Guard:
    spec = GuardrailSpec(
        name=rule,
        check=rule,
        on=("request", "response"),
        action="block",
        attach=Attach(tenant="default"),
        options=Raw(json.dumps(options).encode()),
    )
    return made(spec, Callouts(secret=lambda reference: reference)).guard


def _verdict(guard: Guard, case: Mapping[str, Any]) -> Verdict:
    body = case.get("body", {"content": [{"type": "text", "text": case.get("text")}]})
    direction: Direction = "request" if "arguments" in body else "response"
    schema = Raw(json.dumps(case["schema"]).encode()) if "schema" in case else None
    context = Context(direction=direction, tenant="default", schema=schema)
    verdict = guard.inspect(Content(json.dumps(body).encode()), context)
    if not isinstance(verdict, Verdict):
        raise TypeError("a corpus is for checks that ask nobody")
    return verdict


def _kinds(verdict: Verdict, rule: str, kinds: Sequence[str]) -> frozenset[str]:
    """What was found; a corpus that does not tell kinds apart names its rule alone."""
    if verdict.outcome == "allow":
        return frozenset()
    labels = frozenset(span.label for span in verdict.spans)
    return frozenset((rule,)) if not labels or list(kinds) == [rule] else labels


def _checks() -> Iterator[str]:
    yield from ("## The checks", "")
    fields = GuardrailSection.model_fields
    for check in get_args(CheckName):
        about = CHECKS[check]
        yield from (f"### {check}", "", about.does, "")
        for key in CHECK_KEYS[check]:
            meaning = (fields[key].description or "").partition(": ")[2]
            yield f"- `{key}`: {meaning}"
        if CHECK_KEYS[check]:
            yield ""
        yield from (f"What it cannot: {about.cannot}", "")


def _quality() -> Iterator[str]:
    yield from (
        "## How well they do",
        "",
        "Counted over `tests/guard_corpus/`: ordinary texts, attacks, and hard cases of both sorts that",
        "are known to be judged wrongly. The cases were collected by those who wrote the checks, so that they",
        "show what a check is for and where it ends, not how often it errs on your traffic; `mode: monitor` does.",
        "",
        "| Check | Kind | Found | Missed | False alarms | Precision | Recall |",
        "|---|---|---|---|---|---|---|",
    )
    for path in sorted(CORPUS.glob("*.json")):
        for score in scores(path):
            kind = "" if score.kind == path.stem else score.kind
            counts = f"{score.found} | {score.missed} | {score.false}"
            yield f"| {path.stem} | {kind} | {counts} | {score.precision} | {score.recall} |"
    yield ""


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.2f}" if whole else ""


def _question() -> str:
    context = Context(
        direction="request",
        tenant="default",
        principal="anna",
        groups=frozenset(("support",)),
        key="k_71",
        virtual_server="dev",
        operation="tools/call",
        target="find_order",
        capability=CapabilityId("orders", "tool", "find"),
        call="c_5f2a",
    )
    parts = parts_of(Content(b'{"arguments":{"city":"Oslo","note":"call Anna"}}'))
    question = json.loads(FORMATS["portico"].question("vendor", parts, context))
    shown = ",\n".join(
        f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in question.items()
    )
    return "{\n" + shown.replace('}, {"id"', '},\n            {"id"') + "\n}"
