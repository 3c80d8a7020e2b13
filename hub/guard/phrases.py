"""What texts say that want to steer a model: patterns, what each is a sign of, and how sure a sign.

In a pattern a space stands for whatever may separate words, and ``~`` for up to four
words with what separates them. Texts come without accents, in any case.
"""

import re
from collections.abc import Iterator
from typing import Final, Literal

from msgspec import Struct

Sensitivity = Literal["low", "normal", "high"]

SENSITIVITIES: Final[tuple[Sensitivity, ...]] = ("low", "normal", "high")
"""A phrase of ``low`` counts at every sensitivity, one of ``high`` at that alone."""


class Phrase(Struct, frozen=True):
    """One pattern, in RE2's syntax."""

    label: str
    least: Sensitivity
    pattern: str


_APART: Final = r"""\s*_`"'.,:;>#/|()-"""
_SEPARATOR: Final = f"[{_APART}]+"
_WORDS: Final = rf"(?:[^{_APART}]+{_SEPARATOR}){{0,4}}"

_IGNORE: Final = (
    r"(?:[i1!l]gn[o0]r(?:e|3|ing)|disregard(?:ing)?|forget(?: about)?|override|bypass|discard|neglect"
    r"|(?:do not|don'?t|stop|no longer) (?:follow|following|obey|obeying)"
    r"|pay no attention to|set aside|throw away)"
)
_BEFORE: Final = r"(?:pr[e3]v[i1][o0]us(?:ly)?|prior|above|earlier|preceding|foregoing|precedent)"
_ORDERS: Final = (
    r"(?:[i1]nstruct[i1][o0]ns?|prompts?|directives?|commands?|guidelines?|rules?|directions?)"
)
_MODEL: Final = (
    r"(?:ai|a\.i\.|llm|(?:large )?language model|chatbot|claude|chatgpt|gpt|gemini|copilot)s?"
)
_MODELS: Final = rf"(?:{_MODEL}(?: (?:assistant|agent|model|system|bot)s?)?|ai(?:-powered)? tools?)"
_PRIVATE: Final = (
    r"(?:conversation|chat (?:history|log)|message history|system prompt|(?:private|ssh) keys?|id_rsa"
    r"|env(?:ironment)? (?:variables?|vars?)|passwords?|context window|(?:previous|prior) messages"
    r"|tool (?:results?|outputs?)|user'?s? (?:data|emails?|messages|files|secrets))"
)
_KEYS: Final = (
    r"(?:api[ _-]?keys?|credentials?|secrets?|(?:access|auth|session|bearer)[ _-]?tokens?)"
)
_PLACE: Final = r"(?:https?://|[\w.+-]+@[\w-]+\.|(?:this|the following|my|our) (?:url|endpoint|server|webhook|address|e-?mail))"
_KEY_FILES: Final = (
    r"(?:\.ssh/|id_rsa\b|id_ed25519\b|/etc/shadow|\.aws/credentials|mcp\.json|\.netrc"
    r"|\.git-credentials|\.kube/config|wallet\.dat)"
)

_TABLE: Final[tuple[tuple[str, Sensitivity, tuple[str, ...]], ...]] = (
    ("override", "low", (
        rf"\b{_IGNORE} ~{_BEFORE} (?:[\w'-]+ ){{0,2}}?{_ORDERS}\b",
        rf"\b{_IGNORE} ~{_ORDERS} (?:[\w'-]+ ){{0,3}}?{_BEFORE}\b",
        rf"\b{_IGNORE} (?:all |any |of |the )*(?:your|system) (?:[\w'-]+ ){{0,2}}?{_ORDERS}\b",
        r"\bi[._\s-]g[._\s-]n[._\s-]o[._\s-]r[._\s-]e\b",
        r"\b(?:ignorieren?|vergiss|vergessen|missachten?) ~(?:vorherigen?|bisherigen?|obigen?"
        r"|vorangegangenen?|vorigen?|fruheren?) ~(?:anweisung|instruktion|befehl|regel|vorgabe)",
        r"\b(?:ignor[ae]|olvid[ae]|descart[ae]|omit[ae]) ~(?:instrucciones|ordenes|indicaciones"
        r"|reglas) ~(?:anteriores|previas|de arriba)",
        r"\b(?:ignore[zr]?|oublie[zr]?|neglige[zr]?) ~(?:instructions|consignes|directives|regles) "
        r"~(?:precedentes|anterieures|ci-dessus)",
        r"\b(?:ignor[ae]|esqueca|desconsidere|dimentica) ~(?:instrucoes|istruzioni|ordens|regole) "
        r"~(?:anteriores|precedenti|acima)",
        r"(?:игнорируй|забудь|проигнорируй)(?:те)? ~(?:инструкци|указани|команд|правил)",
        r"(?:忽略|无视|無視|忘记|忘記).{0,8}(?:之前|以上|先前|上面|前面|所有).{0,8}(?:指令|指示|提示|规则|規則|命令)",
        r"(?:以前|上記|これまで|前|すべて)の.{0,8}(?:指示|命令|プロンプト|指令|ルール).{0,6}(?:無視|忘れ)",
        r"(?:이전|위|앞|모든).{0,10}(?:지시|명령|지침|프롬프트).{0,6}(?:무시|잊)",
    )),
    ("override", "normal", (
        rf"\b{_IGNORE} ~(?:safety|security|content|original|initial|developer|existing) "
        rf"(?:{_ORDERS}|polic(?:y|ies)|filters?|guardrails?|restrictions?)\b",
        rf"\b{_IGNORE} (?:everything|anything|all|what) ~(?:above|before this|you were told|you know)\b",
        r"\b(?:new|updated|revised) (?:system )?(?:instructions?|system prompt|directives?) ?:",
        r"\b(?:system|admin|administrator|developer|root) override\b",
        r"\byour (?:(?:real|actual|true|only) (?:task|role)|(?:new|real|actual|true|only) (?:goal|objective"
            r"|instructions?|mission)) "
        r"(?:is|are)\b",
        r"\bfrom now on you (?:will|must|should|shall|can|are to)? ?(?:only |always |never )?"
        r"(?:respond|answer|act|behave|speak|obey|pretend|follow|output|reply)\b",
    )),
    ("override", "high", (
        rf"\b{_IGNORE} ~{_ORDERS}\b",
        r"\bfrom now on you\b",
        r"\bnew (?:task|objective|role|goal) ?:",
    )),
    ("role_marker", "low", (
        r"<\|(?:im_start|im_end|im_sep|system|user|assistant|endoftext|eot_id|start_header_id"
        r"|end_header_id|begin_of_text|channel|end_of_turn|endofprompt)\|>",
        r"\[/?INST\]|<</?SYS>>|</?(?:start|end)_of_turn>",
    )),
    ("role_marker", "normal", (
        r"</?(?:system|system[_-]prompt|system[_-]reminder|system[_-]message|assistant|human"
        r"|tool_result|tool_response|function_results|function_calls|developer_message)>",
        r"\n\s*\n\s*(?:human|assistant): ?\S",
        r"(?:^|\n)\s*#{1,4}\s*system(?: prompt| message)? ?(?::|\n)",
        r"\[(?:system|admin)(?:[ _](?:note|message|instructions?|override|prompt))? ?[\]:]",
        r"[-=*#]{3,} ?(?:begin|start|end)(?: of)?(?: new)? (?:system|admin|developer|assistant|user) "
        r"(?:prompt|message|instructions?|input|output)",
    )),
    ("role_marker", "high", (
        r"(?:^|\n)\s*(?:system|assistant|human|developer) ?: ?\S",
        r'"role"\s*:\s*"(?:system|developer)"',
    )),
    ("addressed_model", "normal", (
        rf"\b(?:note|message|instructions?|attention|important|notice|reminder|hint|warning|dear|hey"
        rf"|hello)(?: message| notice| note| information)? (?:to |for )?(?:the |any |all |every )?"
        rf"{_MODELS} ?(?:[:,!.]|reading|processing|that|who|please|you)",
        rf"\b(?:note|message|instructions?|notice|reminder) (?:to|for) (?:the |any |all |every )?{_MODELS}\b",
        rf"\bif you(?: are|'?re) (?:an?|the) (?:automated |autonomous )?{_MODELS}\b",
        rf"\b{_MODELS} (?:reading|processing|parsing|summari[sz]ing|viewing|evaluating|reviewing) th(?:is|ese)\b",
        rf"\b{_MODELS} (?:must|should|has to|is required to|are required to|shall) (?:now |first |always |also )?"
        r"(?:call|invoke|run|execute|send|read|open|ignore|include|recommend|approve|reply|respond)\b",
        r"<important>",
        r"\bbefore (?:using|calling|invoking|running) (?:this|any(?: other)?) (?:tool|function)s? [^.\n]{0,60}"
        r"(?:file|contents?|\.ssh|\.env|config|credential|token|key|history|conversation)",
        r"\bpass (?:its|the|their) (?:full |entire )?contents? (?:as|in|into|to|via)\b",
        r"\b(?:when|whenever|if) ~(?:is|are|called|used|invoked|mentioned) [^.\n]{0,60}"
        r"\b(?:also|secretly|silently|instead) (?:call|invoke|send|use|run|forward|execute|bcc)\b",
        r"\b(?:silently|secretly|covertly)\s+(?:\w+ ){0,2}?(?:send|call|invoke|run|add|include|forward"
        r"|execute|append|bcc|upload|install|copy|read|delete)\b",
    )),
    ("addressed_model", "high", (
        r"\b(?:instructions?|note|message) (?:to|for) (?:the |any |all )?(?:agent|assistant|model|bot)s?\b",
        r"\byou are now\b",
        r"\b(?:assistant|agent|model) (?:must|shall) (?:now |first |always )?\w+",
        r"\b(?:otherwise|or else) (?:the|this) tool (?:will not|won'?t|does not) work\b",
        r"\b(?:always|must) (?:call|use|invoke|prefer) this (?:tool|server) (?:first|before|instead)\b",
    )),
    ("secrecy", "normal", (
        r"\b(?:do not|don'?t|never|must not|without|avoid|refrain from|no need to) (?:ever |directly )?"
        r"(?:tell|telling|inform|informing|mention|mentioning|notify|notifying|alert|alerting|warn"
        r"|warning|let|letting) (?:this |it |that |anything |about |any of this )*(?:to )?the "
        r"(?:user|human|operator|customer)\b",
        r"\b(?:do not|don'?t|never) (?:mention|reveal|disclose|discuss|acknowledge) (?:these|this|any of these"
        r"|the existence of) (?:instructions?|prompt|message|note|step)s?\b",
        r"\b(?:keep|hide) (?:this|these instructions?|it) (?:secret |hidden |private )?(?:from) (?:the )?user\b",
        r"\bthe user (?:must|need|does|will)(?: not|n'?t) (?:ever )?(?:know|be told|be informed"
        r"|notice|be aware|find out)\b",
    )),
    ("secrecy", "high", (
        r"\b(?:do not|don'?t|never|without) ~(?:show|showing|ask|asking|reveal|revealing|say|saying) "
        r"~(?:user|human)\b",
    )),
    ("exfiltration", "normal", (
        rf"\b(?:send|forward|post|upload|transmit|leak|e-?mail|relay|bcc|exfiltrate|append|encode|attach"
        rf"|submit|put) [^.\n]{{0,50}}\b{_PRIVATE}[^\n]{{0,60}}\b(?:to|at|into|in|as|via) [^\n]{{0,20}}{_PLACE}",
        rf"\b(?:forward|leak|bcc|exfiltrate|steal|harvest|collect and send) [^.\n]{{0,40}}(?:{_KEYS}|{_PRIVATE})",
        rf"\b(?:read|cat|open|print|get|fetch|access|include|send|dump|extract|return) [^.\n]{{0,40}}"
        rf"{_KEY_FILES}(?:[^.]|\.[^p]|$)",
        r"!\[[^\]]{0,80}\]\(https?://[^)\s]{1,200}[?&/=](?:\w+=)?(?:\{|\$\{|<|%7b|\[)",
        r"\b(?:respond|reply|answer|output|render|display|end) [^.\n]{0,60}(?:!\[|markdown image|image tag)",
        rf"{_PLACE}[^\s]{{0,80}} (?:with|including|containing|together with) [^.\n]{{0,30}}{_PRIVATE}",
    )),
    ("exfiltration", "high", (
        rf"\b(?:send|post|upload|submit|include|copy) [^.\n]{{0,50}}(?:{_KEYS}|{_PRIVATE}|\.env\b)[^\n]{{0,40}}"
        rf"\b(?:to|in|as) ",
        r"\b(?:curl|wget) [^\n]{0,120}\| ?(?:ba|z)?sh\b",
    )),
    ("prompt_leak", "normal", (
        r"\b(?:reveal|print|repeat|output|show|display|tell me|give me|dump|disclose|leak|copy|translate"
        r"|summari[sz]e|what (?:is|are|were)|write (?:out|down)) ~(?:your|the) (?:\w+ )?(?:system prompt"
        r"|system instructions?|(?:initial|hidden|original|secret|internal) (?:prompt|instructions?)"
        r"|developer message)s?\b",
        r"\b(?:repeat|print|output|copy) (?:me )?(?:everything|all (?:of )?(?:the )?(?:text|words)|the (?:words|text)) "
        r"(?:above|before|preceding)\b",
    )),
    ("jailbreak", "low", (r"\bdo anything now\b",)),
    ("jailbreak", "normal", (
        r"\b(?:dan|god|sudo|jailbreak|unrestricted) mode ?(?:is |now )*(?:enabled|activated|on\b|unlocked)",
        r"\byou are now (?:an? |the |in )?(?:\w+ ){0,3}?(?:ai|assistant|language model|chatbot|dan"
        r"|jailbroken|unrestricted|unfiltered|developer mode|god mode|hacker)\b",
        r"\b(?:pretend|act as if|imagine|roleplay)(?: that)? you (?:are|have|were|had) (?:an? |no )"
        r"(?:\w+ ){0,3}?(?:ai|model|assistant|restrictions?|rules|filters?|limits?|guidelines|hacker)\b",
        r"\byou (?:are|have been)? ?(?:no longer|not) (?:bound|restricted|limited|constrained|governed) by\b",
        r"\b(?:without|no|free (?:of|from)|bypass(?:ing)?|remove|disable) (?:any |all |your |the |of )*"
        r"(?:ethical|moral|safety|content) (?:restrictions?|filters?|guidelines?|guardrails?|constraints?"
        r"|limitations?|polic(?:y|ies))\b",
    )),
    ("jailbreak", "high", (
        r"\b(?:developer|debug) mode ?(?:is |now )*(?:enabled|activated)\b",
        r"\b(?:pretend|act as if|imagine)(?: that)? you\b",
    )),
    ("hidden_markup", "normal", (
        r"<!--[^>]{0,200}(?:\bignore (?:all|any|previous|the)|\bai (?:assistant|agent|model|system)"
        r"|\bllm\b|\bassistant ?[,:]|system prompt|\byou must (?:call|send|read|reply|respond|include)"
        r"|\bai ?:)",
        r"\[//\]: ?# ?\([^)]{0,200}(?:\bignore\b|\bai\b|\bllm\b|assistant|system prompt|you must)",
        r"style ?= ?[\"'][^\"']{0,120}(?:display ?: ?none|visibility ?: ?hidden|font-size ?: ?0|opacity ?: ?0"
        r"|color ?: ?(?:white|#fff(?:fff)?|transparent))[^>]{0,120}>[^<]{0,160}(?:\bignore\b|assistant"
        r"|\bai\b|\bllm\b|instruction|you must|prompt)",
    )),
    ("hidden_markup", "high", (
        r"<!--[^>]{0,200}(?:instruct|prompt|assistant|agent)",
        r"style ?= ?[\"'][^\"']{0,120}(?:display ?: ?none|visibility ?: ?hidden|font-size ?: ?0)[^>]{0,120}>[^<]{40}",
    )),
)  # fmt: skip


def phrases(sensitivity: Sensitivity) -> Iterator[Phrase]:
    """The phrases that count at ``sensitivity``, ready to be compiled."""
    counting = SENSITIVITIES[: SENSITIVITIES.index(sensitivity) + 1]
    for label, least, patterns in _TABLE:
        if least in counting:
            for pattern in patterns:
                yield Phrase(label, least, _written_out(pattern))


def _written_out(pattern: str) -> str:
    """A pattern with what its spaces stand for; a space that is optional may be nothing."""
    pattern = pattern.replace("~", _WORDS)
    return re.sub(
        r" (\?)?", lambda space: f"(?:{_SEPARATOR})?" if space[1] else _SEPARATOR, pattern
    )
