"""Tool search finds what callers mean, at least as well as BM25, and nothing beyond their view."""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import pytest

from hub.catalog.names import MemoryLedger
from hub.catalog.search import ToolSearch, words_of
from hub.compile import Compiler
from hub.domain.catalog import VirtualServer
from hub.domain.desired import GrantSpec
from hub.domain.grant import View
from hub.domain.principal import Principal
from tests.listings import compiled, everything_of, listing, served, tool

pytestmark = pytest.mark.anyio

CORPUS: dict[str, dict[str, tuple[str, str]]] = {
    "github": {
        "create_issue": ("Open a new issue in a repository.", "owner repo title body labels"),
        "list_issues": ("List issues of a repository, filtered by state.", "owner repo state"),
        "add_issue_comment": ("Comment on an issue.", "owner repo issue_number body"),
        "create_pull_request": ("Open a pull request from a branch.", "owner repo head base title"),
        "merge_pull_request": ("Merge an open pull request.", "owner repo number merge_method"),
        "get_file_contents": ("Read a file from a repository.", "owner repo path ref"),
        "search_code": ("Search source code over all repositories.", "q sort"),
        "create_branch": ("Create a branch from another.", "owner repo branch from_branch"),
        "fork_repository": ("Fork a repository to your account.", "owner repo organization"),
        "listCommits": ("List the commits of a branch, newest first.", "owner repo sha"),
    },
    "files": {
        "read_file": ("Read the complete contents of a file from disk.", "path head tail"),
        "write_file": ("Create a new file or overwrite an existing one.", "path content"),
        "edit_file": ("Make line-based edits to a text file.", "path edits dryRun"),
        "list_directory": ("List files and folders at a path.", "path"),
        "move_file": ("Move or rename files and directories.", "source destination"),
        "search_files": ("Find files whose name matches a pattern.", "path pattern"),
        "get_file_info": ("Size, timestamps and permissions of a file.", "path"),
        "directory_tree": ("A recursive tree of folders as JSON.", "path"),
    },
    "database": {
        "query": ("Run a read-only SQL statement against PostgreSQL.", "sql"),
        "list_tables": ("Names of the tables in a schema.", "schema"),
        "describe_table": ("Columns and types of a table.", "table_name"),
        "explain_query": ("Show the execution plan of a statement.", "sql analyze"),
    },
    "chat": {
        "postMessage": ("Send a message to a channel.", "channel_id text"),
        "reply_to_thread": ("Answer in a message thread.", "channel_id thread_ts text"),
        "add_reaction": ("React to a message with an emoji.", "channel_id timestamp reaction"),
        "get_users": ("List the people of the workspace with their profiles.", "cursor limit"),
        "get_channel_history": ("Recent messages of a channel.", "channel_id limit"),
    },
    "calendar": {
        "create_event": ("Schedule a meeting with attendees.", "start end summary attendees"),
        "list_events": ("Upcoming appointments in a time range.", "time_min time_max"),
        "delete_event": ("Cancel a meeting.", "event_id"),
        "find_free_time": ("When all attendees are available.", "attendees duration"),
    },
    "mail": {
        "send_email": ("Send an e-mail with optional attachments.", "to subject body attachments"),
        "search_emails": ("Search the mailbox.", "query max_results"),
        "draft_email": ("Save a draft without sending it.", "to subject body"),
    },
    "payments": {
        "create_refund": ("Give money back for a charge.", "charge amount reason"),
        "list_invoices": ("Invoices of a customer.", "customer status"),
        "create_customer": ("Add a customer.", "name email"),
        "create_payment_link": ("A link under which a product can be paid.", "price quantity"),
        "get_balance": ("How much money is on the account.", "currency"),
    },
    "cluster": {
        "pods_list": ("List pods in a namespace.", "namespace labelSelector"),
        "pods_log": ("Logs of a pod's container.", "name namespace container"),
        "pods_delete": ("Delete a pod.", "name namespace"),
        "deployment_scale": ("Change the number of replicas.", "name replicas"),
        "helm_install": ("Install a Helm chart.", "chart values"),
    },
    "web": {
        "fetch": ("Fetch a URL and return it as markdown.", "url max_length"),
        "browser_screenshot": ("Take a picture of the current page.", "fullPage"),
        "browser_click": ("Click an element of the page.", "selector"),
        "weather_forecast": ("Weather of the coming days at a place.", "latitude longitude"),
        "translate_text": ("Translate text into another language.", "text target_language"),
    },
}

LABELLED = [
    ("open a bug report in a repository", {"create_issue"}),
    ("show open issues", {"list_issues"}),
    ("comment on issue 12", {"add_issue_comment"}),
    ("create pull request", {"create_pull_request"}),
    ("merge PR pull request", {"merge_pull_request"}),
    ("list commits", {"listCommits"}),
    ("commit history of a branch", {"listCommits"}),
    ("find code in repositories", {"search_code"}),
    ("GitHub fork", {"fork_repository"}),
    ("new branch", {"create_branch"}),
    ("read file", {"read_file", "get_file_contents"}),
    ("reading files from disk", {"read_file"}),
    ("overwrite a file", {"write_file"}),
    ("rename a file", {"move_file"}),
    ("renaming directories", {"move_file"}),
    ("list folders", {"list_directory", "directory_tree"}),
    ("file size", {"get_file_info"}),
    ("run SQL", {"query"}),
    ("database tables", {"list_tables"}),
    ("columns of table", {"describe_table"}),
    ("query plan", {"explain_query"}),
    ("post message", {"postMessage"}),
    ("send a message to the team channel", {"postMessage"}),
    ("replying to a thread", {"reply_to_thread"}),
    ("emoji reaction", {"add_reaction"}),
    ("schedule meeting", {"create_event"}),
    ("scheduling a meeting", {"create_event"}),
    ("cancel meeting", {"delete_event"}),
    ("when are attendees available", {"find_free_time"}),
    ("send email", {"send_email"}),
    ("search mailbox", {"search_emails"}),
    ("save draft", {"draft_email"}),
    ("refund a charge", {"create_refund"}),
    ("customer invoices", {"list_invoices"}),
    ("account balance", {"get_balance"}),
    ("payment link", {"create_payment_link"}),
    ("pod logs", {"pods_log"}),
    ("delete pod", {"pods_delete"}),
    ("scale deployment replicas", {"deployment_scale"}),
    ("scaling deployments", {"deployment_scale"}),
    ("install chart", {"helm_install"}),
    ("screenshot", {"browser_screenshot"}),
    ("click on page element", {"browser_click"}),
    ("weather", {"weather_forecast"}),
    ("translation to another language", {"translate_text"}),
    ("fetch url", {"fetch"}),
]

Ranking = Callable[[str], Sequence[str]]


async def searchable(**settings: Any) -> VirtualServer:
    found = [
        listing(
            upstream,
            [
                tool(name, text, properties={word: {"type": "string"} for word in words.split()})
                for name, (text, words) in tools.items()
            ],
        )
        for upstream, tools in CORPUS.items()
    ]
    return await served(found, everything_of(*CORPUS, presentation="search", **settings))


def plain_bm25(server: VirtualServer) -> Ranking:
    """The textbook: k1 = 1.2, b = 0.75, over names, descriptions and argument names as one text."""
    documents = {
        name: tokens(" ".join([name, found["description"], *found["inputSchema"]["properties"]]))
        for name, exposure in server.tools.items()
        if (found := json.loads(exposure.fragment))
    }
    average = sum(map(len, documents.values())) / len(documents)
    frequency = Counter(word for words in documents.values() for word in set(words))

    def rank(query: str) -> list[str]:
        scores: dict[str, float] = {}
        for name, words in documents.items():
            count = Counter(words)
            for word in tokens(query):
                rarity = math.log(
                    1 + (len(documents) - frequency[word] + 0.5) / (frequency[word] + 0.5)
                )
                norm = 1.2 * (0.25 + 0.75 * len(words) / average)
                gain = rarity * count[word] * 2.2 / (count[word] + norm)
                scores[name] = scores.get(name, 0.0) + gain
        return [
            name for name in sorted(scores, key=lambda name: (-scores[name], name)) if scores[name]
        ]

    return rank


def tokens(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


def reciprocal_rank(rank: Ranking) -> float:
    total = 0.0
    for query, wanted in LABELLED:
        places = [place for place, name in enumerate(rank(query), 1) if name in wanted]
        total += 1 / places[0] if places else 0.0
    return total / len(LABELLED)


def recall(rank: Ranking, first: int) -> float:
    hits = [len(wanted & set(rank(query)[:first])) / len(wanted) for query, wanted in LABELLED]
    return sum(hits) / len(hits)


async def test_the_ranking_is_at_least_as_good_as_plain_bm25() -> None:
    server = await searchable()
    search = ToolSearch()
    everything = View("all", b"\xff" * 4096)
    found = {
        query: [e.name for e in await search.find(server, everything, query, 50)]
        for query, _ in LABELLED
    }
    plain = plain_bm25(server)

    def ours(query: str) -> Sequence[str]:
        return found[query]

    assert reciprocal_rank(ours) >= max(reciprocal_rank(plain), 0.9)
    for first in (1, 3, 5):
        assert recall(ours, first) >= recall(plain, first)


def test_names_are_read_as_words() -> None:
    assert set(words_of("listPullRequests")) > set(words_of("list pull requests"))
    assert set(words_of("GitHub")) >= {"git", "hub", "github"}
    assert list(words_of("deleting indexes")) == list(words_of("delete index"))
    assert set(words_of("天気予報")) == {"天気", "気予", "予報"}


async def test_what_is_denied_moves_no_ranking() -> None:
    """Neither how rare a denied tool makes a word nor how long it makes definitions on average."""
    allowed = [
        tool("aaa", "refund refund " + "padding " * 12),
        tool("bbb", "refund it"),
        tool("ccc", "charge it"),
        tool("ddd", "refund of a charge"),
    ]
    for denied in (
        tool("secret", "long " * 400),
        tool("secret", "charge"),
        tool("secret", "refund"),
    ):
        orders = []
        for tools in (allowed, [*allowed, denied]):
            snapshot = await compiled(
                [listing("pay", tools)],
                [everything_of("pay", presentation="search")],
                grants=[GrantSpec(virtual_server="dev", principal="ann", tools=("[abcd]*",))],
            )
            tenant = snapshot.tenants["default"]
            view = tenant.tables.view_of(Principal(tenant="default", name="ann", kind="person"))
            search, server = ToolSearch(), tenant.virtual_servers["dev"]
            queries = ("refund", "refund charge", "charge padding refund", "long secret")
            orders.append([
                [found.fragment for found in await search.find(server, view, query, 10)]
                for query in queries
            ])
        assert orders[0] == orders[1]
        assert [len(found) for found in orders[0]] == [3, 4, 4, 0]


async def test_changes_are_found_at_once_and_limits_hold() -> None:
    compiler, search = Compiler(MemoryLedger()), ToolSearch()
    everything = View("all", b"\xff" * 64)
    spec = everything_of("u", presentation="search")
    before = await served(
        [listing("u", [tool("a", "apples"), tool("b", "pears")])], spec, compiler=compiler
    )
    assert [e.name for e in await search.find(before, everything, "pears", 10)] == ["b"]
    after = await served(
        [listing("u", [tool("a", "pears"), tool("c", "pears")])], spec, compiler=compiler
    )
    assert [e.name for e in await search.find(after, everything, "pears", 10)] == ["a", "c"]
    assert len(await search.find(after, everything, "pears", 1)) == 1
    assert await search.find(after, everything, "", 10) == []
    assert [e.name for e in await search.find(after, everything, "c", 10)] == ["c"]


async def test_a_number_that_is_out_of_range_spoils_no_search() -> None:
    odd = b'{"name":"odd","inputSchema":{"type":"object","properties":{"n":{"maximum":1e400}}}}'
    server = await served([listing("u", [odd, tool("a", "apples")])], everything_of("u"))
    found = await ToolSearch().find(server, View("all", b"\xff" * 64), "apples odd", 10)
    assert {exposure.name for exposure in found} == {"a", "odd"}


async def test_a_query_of_any_length_is_answered_at_once() -> None:
    server = await served([listing("u", [tool("a", "apples")])], everything_of("u"))
    query = "apples " + " ".join(f"word{number}" for number in range(400_000))
    search, everything = ToolSearch(), View("all", b"\xff" * 64)
    await search.find(server, everything, "apples", 10)
    began = perf_counter()
    assert [found.name for found in await search.find(server, everything, query, 10)] == ["a"]
    assert perf_counter() - began < 0.25
