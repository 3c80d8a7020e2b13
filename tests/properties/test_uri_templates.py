"""Which URIs a template stands for, and that finding out takes no time worth speaking of."""

import re
from time import perf_counter

from hypothesis import example, given
from hypothesis import strategies as st

from hub.policy.uri_templates import MAX_URI_LENGTH, parse

EXPRESSIONS = {
    "{a}": "[^/]+",
    "{+a}": ".+",
    "{a*}": ".+",
    "{/a}": ".*",
    "{?a}": ".*",
    "{.a}": ".*",
}
"""An expression, and what it may become as a regular expression."""

parts = st.lists(st.sampled_from([*EXPRESSIONS, "a", "b", "/", "ab", "x:"]), max_size=6)
uris = st.lists(st.sampled_from(["a", "b", "/", "ab", "x:", "é"]), max_size=8).map("".join)


@given(parts, uris)
@example(["{a}", "/", "{a}"], "a/b/a")
@example(["{a}", "{a}"], "ab")
@example([], "")
def test_a_template_stands_for_its_expansions(template: list[str], uri: str) -> None:
    pattern = "".join(EXPRESSIONS.get(part, re.escape(part)) for part in template)
    wanted = re.fullmatch(pattern, uri, re.DOTALL) is not None
    assert parse("".join(template)).matches(uri) == wanted


def test_no_template_and_uri_together_hold_up_the_others() -> None:
    began = perf_counter()
    for number in range(200):
        for expression, filling in (("{+a}/", "a/"), ("{a}", "a"), ("{/a}", "/")):
            template = parse(expression * 32 + f"!{number}")
            assert not template.matches(filling * (MAX_URI_LENGTH // len(filling)))
    assert perf_counter() - began < 5
