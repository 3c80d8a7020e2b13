"""What can go wrong, what then happens, and the tests that show it; ``docs/FAILURES.md`` is written from it.

A line is added with the test that shows it. What is told to callers is said in the words of
``hub/wire_errors.py``, what is recorded in those of ``hub/domain/record.py``.
"""

from typing import Final, Literal, NamedTuple

Side = Literal["client", "upstream", "portico"]

NEVER: Final = "no"
NOT_AGAIN: Final = "maybe; never sent again"
RAN: Final = "yes; never sent again"
SAME: Final = "the same"
NOTHING: Final = "nothing"


class FailureLine(NamedTuple):
    """One way to go wrong."""

    side: Side
    what: str
    happens: str
    modern: str
    """What a caller of 2026-07-28 sees."""
    legacy: str
    """What a caller of an older revision sees."""
    recorded: str
    """Outcome and reason of the call's entry, or the reason of the aggregate of what was no call."""
    executed: str
    """Whether an upstream may have executed anything."""
    tests: tuple[str, ...]
    """Below ``tests/``: ``behaviour/test_x.py::test_y``."""


def _by(file: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{file}.py::{name}" for name in names)


def _failure(kind: str) -> str:
    return f"failure `{kind}`"


def _client(
    what: str,
    happens: str,
    modern: str,
    legacy: str,
    recorded: str,
    tests: tuple[str, ...],
    executed: str = NEVER,
) -> FailureLine:
    return FailureLine("client", what, happens, modern, legacy, recorded, executed, tests)


def _upstream(
    what: str, happens: str, kind: str, tests: tuple[str, ...], executed: str = NOT_AGAIN
) -> FailureLine:
    """A failure of an upstream, which is told alike on every wire."""
    told, recorded = _failure(kind), f"failed, {kind}"
    return FailureLine("upstream", what, happens, told, SAME, recorded, executed, tests)


HOSTILE = "behaviour/test_hostile_clients"
GONE = "behaviour/test_hostile_clients_gone"
BROKEN = "behaviour/test_broken_upstreams"
LOST = "behaviour/test_broken_upstreams_lost"
FIDELITY = "behaviour/test_fidelity"
ERRORS = "behaviour/test_fidelity_errors"
REFUSALS = "behaviour/test_mcp_refusals"
MODERN = "behaviour/test_mcp_modern"
LEGACY = "behaviour/test_mcp_legacy"
SSE = "behaviour/test_mcp_sse"
STDIO = "behaviour/test_mcp_stdio"
FRONT = "behaviour/test_front"
PARKED = "behaviour/test_bridge_parked"

_CLIENTS = (
    _client(
        "The body is no JSON: cut off, compressed, NaN, a byte order mark, another encoding, bad UTF-8",
        "It is refused whole; nothing of it is believed",
        "400, −32700, id null",
        SAME,
        "aggregate `malformed`",
        (
            *_by(HOSTILE, "test_what_is_no_message_is_refused_before_it_is_a_call"),
            *_by("properties/test_inbound", "test_a_body_is_a_message_or_malformed"),
        ),
    ),
    _client(
        "JSON that is no JSON-RPC message: a number, an empty object, no `jsonrpc`, a method that is no "
        "text, `params` that are no object, an id that is no text or number or larger than 1 KiB",
        "It is refused, under its id where one can be read",
        "400, −32600",
        SAME,
        "aggregate `malformed`",
        (
            *_by(HOSTILE, "test_what_is_no_message_is_refused_before_it_is_a_call"),
            *_by(
                ERRORS, "test_an_error_about_a_misshapen_message_carries_its_id_where_there_is_one"
            ),
        ),
    ),
    _client(
        "Members of the wrong type: `_meta`, `name`, `uri`, `cursor`, `level`, `protocolVersion`",
        "The request is refused; members that nobody here reads pass as they are",
        "400, −32602, id echoed",
        "200, −32602, id echoed (`_meta`: 400)",
        "aggregate `malformed`",
        _by(ERRORS, "test_an_error_carries_the_id_of_its_request_whatever_its_status"),
    ),
    _client(
        "Nesting deeper than can be read (some 900 levels)",
        "It is refused; what is less deep passes as it is",
        "400, −32700, or −32600 where the id can be read",
        SAME,
        "aggregate `malformed`",
        _by(HOSTILE, "test_nesting_is_taken_as_deep_as_it_can_be_read_and_refused_beyond"),
    ),
    _client(
        "Keys that are repeated, or spelled with escapes",
        "The last one counts; it is decided on, and it alone is sent",
        "the call's own answer",
        SAME,
        "as any call",
        _by(
            FIDELITY,
            "test_of_repeated_keys_the_last_is_decided_on_and_sent_alone",
            "test_a_rule_on_an_argument_holds_for_every_way_to_write_its_name",
        ),
        executed="as any call",
    ),
    _client(
        "Half a character in an escape (an unpaired surrogate), in either direction",
        "It is read as U+FFFD, as every encoder to UTF-8 writes it; all else stays",
        "the call's own answer",
        SAME,
        "as any call",
        _by(FIDELITY, "test_half_a_character_in_an_escape_costs_that_character_and_nothing_else"),
        executed="as any call",
    ),
    _client(
        "Header fields that are absent, repeated or contradict the body",
        "They are compared with the body and never believed over it",
        "400, −32020, id echoed",
        "they mean nothing",
        "aggregate `malformed`; `Mcp-Param-*`: refused, `header mismatch`",
        (
            *_by(HOSTILE, "test_headers_that_contradict_the_body_are_refused"),
            *_by(
                MODERN,
                "test_every_header_rung_is_checked_in_order_and_the_id_is_echoed",
                "test_a_repeated_routing_header_is_refused",
                "test_parameters_mirrored_in_headers_must_agree",
            ),
        ),
    ),
    _client(
        "An envelope that lacks something, or a revision that nobody speaks",
        "The revisions served are named",
        "400, −32602 or −32022, id echoed",
        "the handshake settles another one; a wrong version header is 400, −32600",
        "aggregate `malformed`",
        (
            *_by(MODERN, "test_an_incomplete_envelope_is_invalid_and_an_unknown_revision_is_named"),
            *_by(LEGACY, "test_a_version_header_may_be_absent_but_not_wrong"),
        ),
    ),
    _client(
        "An unknown method, or one of the other era",
        "It is refused",
        "404, −32601, id echoed",
        "200, −32601, id echoed: 404 would mean that the session ended",
        "aggregate `malformed`",
        (
            *_by(HOSTILE, "test_unknown_methods_are_said_in_each_eras_way"),
            *_by(MODERN, "test_methods_of_the_other_era_and_unknown_ones_are_not_found"),
        ),
    ),
    _client(
        "A tool, prompt or resource that is unknown or denied",
        "Both are answered with the same bytes",
        "400, −32602, id echoed; resources name their `uri`",
        "200, −32602; resources: −32002",
        "refused, with the layer that decided",
        _by(REFUSALS, "test_denied_and_absent_are_the_same_bytes"),
    ),
    _client(
        "A virtual server that is unknown or denied",
        "Both are answered with the same bytes",
        "403, −31403, id echoed",
        SAME,
        "refused, `no such virtual server` or `no grant on the virtual server`",
        _by(
            REFUSALS,
            "test_a_virtual_server_that_is_denied_looks_like_one_that_does_not_exist",
        ),
    ),
    _client(
        "A cursor that was made up, or is another list's",
        "It opens nothing",
        "400, −32602, id echoed",
        "200, −32602, id echoed",
        "refused, `cursor`",
        (
            *_by(ERRORS, "test_an_error_carries_the_id_of_its_request_whatever_its_status"),
            *_by("properties/test_sealed", "test_any_other_token_opens_nothing"),
        ),
    ),
    _client(
        "A `requestState` that was made up, has expired, was used, or is another caller's or request's",
        "It opens nothing; the call that waits behind a parked one goes on waiting for its own caller",
        '400, −32602 "Invalid or expired requestState.", id echoed',
        "there is none",
        "refused, with the cause",
        (
            *_by(
                "behaviour/test_bridge_state",
                "test_a_state_opens_for_its_own_caller_and_request_only",
                "test_a_state_expires_after_ten_minutes",
            ),
            *_by(
                PARKED,
                "test_a_state_opens_once_and_for_its_own_request_only",
                "test_nobody_else_can_resume_and_a_revoked_key_ends_what_it_parked",
            ),
        ),
    ),
    _client(
        "Answers to an upstream's questions that are none",
        "They are refused, and the call goes on waiting",
        "400, −32602, id echoed",
        "its error goes to the upstream",
        "refused, `input responses`",
        _by(PARKED, "test_answers_that_are_none_are_refused_and_the_call_goes_on_waiting"),
        executed=NOT_AGAIN,
    ),
    _client(
        "A caller that is asked for input and never comes back, or parks too many calls (16 each, 256 in all)",
        "After ten minutes, or when its own newer ones need the place, the upstream is told and the call "
        "is over; where others hold all places it is refused",
        "the next retry: 400, −32602",
        "the question ends with its call",
        "abandoned; refused, `parked calls`",
        _by(
            "behaviour/test_bridge_ends",
            "test_who_does_not_come_back_in_time_is_not_waited_for",
            "test_a_principal_that_parks_too_many_loses_its_oldest",
            "test_where_all_places_are_taken_by_others_a_call_is_refused",
            "test_a_legacy_caller_that_does_not_answer_ends_the_call_and_its_question",
        ),
        executed=NOT_AGAIN,
    ),
    _client(
        "A foreign `Host` or `Origin`",
        "Nothing of the request is read; the connection is closed",
        "421 or 403, plain text",
        SAME,
        "aggregate `host` or `origin`",
        (
            *_by(HOSTILE, "test_who_may_not_come_in_is_told_at_the_door"),
            *_by(REFUSALS, "test_foreign_hosts_and_origins_are_turned_away_at_the_door"),
        ),
    ),
    _client(
        "Another content type than JSON",
        "It is refused, whatever the body holds",
        "415, −32600, id echoed",
        SAME,
        "aggregate `content type`",
        _by(HOSTILE, "test_who_may_not_come_in_is_told_at_the_door"),
    ),
    _client(
        "A client that accepts neither JSON nor event streams; another HTTP method; another path",
        "It is refused",
        "406, −32600, id echoed; 405; 404",
        SAME,
        "aggregate `accept`, `method` or `path`",
        (
            *_by(HOSTILE, "test_who_may_not_come_in_is_told_at_the_door"),
            *_by(
                REFUSALS,
                "test_bodies_must_be_json_and_within_bounds",
                "test_the_tenant_named_must_be_the_credentials_own",
            ),
        ),
    ),
    _client(
        "A body of more than 4 MiB",
        "It is refused when it is announced or grows beyond; the rest is not read",
        "413, no id; the connection is closed",
        SAME,
        "aggregate `body too large`",
        _by(HOSTILE, "test_a_body_beyond_the_limit_is_not_read"),
    ),
    _client(
        "Header fields of more than 64 KiB",
        "They are refused before the rest comes",
        "431, plain text; the connection is closed",
        SAME,
        "aggregate `header fields too large`",
        (
            *_by(HOSTILE, "test_a_head_beyond_the_limit_is_not_read_to_its_end"),
            *_by(FRONT, "test_a_head_that_is_too_large_is_refused"),
        ),
    ),
    _client(
        "Header fields that take more than 10 s to be whole",
        "They are given up",
        "408, plain text; the connection is closed",
        SAME,
        "aggregate `header fields too slow`",
        _by(
            FRONT,
            "test_a_head_that_never_ends_is_given_up",
            "test_refusals_of_the_front_are_counted",
        ),
    ),
    _client(
        "A body that is silent for 30 s",
        "It is given up",
        "408 where nothing was answered yet; the connection is closed",
        SAME,
        "aggregate `body too slow`",
        _by(FRONT, "test_a_body_that_stands_still_is_given_up"),
    ),
    _client(
        "A connection on which nothing comes for 75 s",
        "It is closed without a word",
        "the end of the connection",
        SAME,
        NOTHING,
        _by(FRONT, "test_an_idle_connection_is_closed_without_a_word"),
    ),
    _client(
        "A request for another protocol (`Upgrade`)",
        "It is answered as if it had not asked for one",
        "the call's own answer",
        SAME,
        "as any call",
        _by(FRONT, "test_a_wish_for_another_protocol_is_passed_over"),
        executed="as any call",
    ),
    _client(
        "What is no HTTP: TLS, two lengths, bad chunks, a second request smuggled behind the first",
        "It is hung up on; nothing behind it is read",
        "400, or only the end of the connection",
        SAME,
        "aggregate `bad http`",
        _by(HOSTILE, "test_what_is_no_http_is_hung_up_on"),
    ),
    _client(
        "No credential, one that is unknown, revoked, expired, or of another tenant; a local caller "
        "behind a proxy",
        "It is told how to authenticate, and that before anything else",
        "401, −31401, id echoed, `WWW-Authenticate`",
        SAME,
        "aggregate `unauthenticated`",
        (
            *_by(HOSTILE, "test_who_may_not_come_in_is_told_at_the_door"),
            *_by(
                REFUSALS,
                "test_whoever_proves_nothing_is_told_how_to",
                "test_whoever_proves_nothing_is_told_that_before_anything_else",
                "test_only_direct_loopback_callers_are_anonymous",
            ),
            *_by(
                "behaviour/test_pipeline",
                "test_a_flood_of_the_unidentified_is_counted_and_leaves_no_entry_each",
            ),
        ),
    ),
    _client(
        "Path and `X-Tenant-ID` that name different tenants",
        "It is refused",
        "400, plain text",
        SAME,
        "aggregate `tenant`",
        _by(REFUSALS, "test_the_tenant_named_must_be_the_credentials_own"),
    ),
    _client(
        "No session id; one that is unknown, ended, forged, another principal's or another virtual "
        "server's",
        "All but the first are the same unknown session",
        "session ids mean nothing",
        "400 without one, 404 else, −32600, id echoed",
        "aggregate `session`; a call in another principal's: refused, `session`",
        (
            *_by(HOSTILE, "test_a_session_is_asked_for_known_and_ones_own"),
            *_by(LEGACY, "test_another_principals_session_is_an_unknown_one"),
            *_by(SSE, "test_messages_need_the_stream_they_belong_to_and_its_own_principal"),
        ),
    ),
    _client(
        "A batch in a revision without batches, an empty one, one of more than 50; garbage in a batch",
        "The batch is refused; garbage in a good one is answered for itself, the rest runs",
        "400, −32600, id null",
        "the same; an item of a good batch gets an error of its own",
        "aggregate `malformed`; each call of a good batch its own entry",
        _by(HOSTILE, "test_only_the_revision_with_batches_takes_them_and_not_too_many"),
    ),
    _client(
        "An answer that nobody asked for, a notification that means nothing, a cancellation of what "
        "is not under way",
        "It is dropped",
        "answers: 400, −32600; notifications: 202",
        "202",
        "aggregate `malformed` where it was refused, else nothing",
        (
            *_by(MODERN, "test_what_no_request_may_be_is_refused_and_notifications_are_taken"),
            *_by(
                LEGACY,
                "test_notifications_and_answers_are_taken_and_ping_is_no_call",
                "test_only_the_cancel_notification_cancels_and_only_in_its_own_session",
            ),
        ),
    ),
    _client(
        "The client leaves while its call runs, or in the middle of its stream",
        "2026-07-28: the upstream is told, by closing the stream or `notifications/cancelled`; "
        "older: the call runs on",
        NOTHING,
        NOTHING,
        "cancelled; older: as it ended, `delivered: none` where that was noticed",
        (
            *_by(
                GONE,
                "test_a_modern_caller_that_leaves_cancels_upstream",
                "test_a_child_is_told_when_a_modern_caller_leaves",
                "test_a_legacy_caller_that_leaves_cancels_nothing_and_its_call_is_recorded",
            ),
            *_by(
                LEGACY,
                "test_hanging_up_does_not_cancel_and_the_record_says_that_nobody_was_there",
            ),
            *_by(SSE, "test_calls_go_on_when_the_stream_is_lost"),
        ),
        executed=NOT_AGAIN,
    ),
    _client(
        "The client leaves before its request is whole",
        "There was no call",
        NOTHING,
        NOTHING,
        NOTHING,
        _by(GONE, "test_a_request_that_is_never_whole_is_no_call"),
    ),
    _client(
        "The client does not read its answer",
        "The call is over and recorded; nobody else waits for it; after 60 s without a byte it is "
        "hung up on",
        "the answer, once it reads",
        SAME,
        "as any call; aggregate `answer not read`",
        _by(GONE, "test_a_caller_that_reads_nothing_holds_nobody_else_up")
        + _by(FRONT, "test_a_client_that_never_reads_is_hung_up_on"),
        executed=RAN,
    ),
    _client(
        "Requests sent without waiting for answers",
        "They are answered in their order",
        "each its answer",
        SAME,
        "each its entry",
        _by(GONE, "test_requests_sent_without_waiting_are_answered_in_their_order"),
        executed="as any call",
    ),
    _client(
        "A line over standard input, or a message over HTTP+SSE, that is none",
        "It is answered with an error; the next one is read",
        "−32700 or −32600, id null where none can be read",
        SAME,
        "aggregate `malformed`",
        (
            *_by(HOSTILE, "test_over_http_and_sse_what_is_no_message_is_answered_and_counted"),
            *_by(STDIO, "test_each_message_is_judged_by_its_own_era"),
        ),
    ),
)

_UPSTREAMS = (
    _upstream(
        "Nobody listens, the name cannot be resolved, the address may not be reached",
        "No connection, no request",
        "unreachable",
        (
            *_by(LOST, "test_where_nobody_listens_nothing_is_executed"),
            *_by("contracts/test_http_pool", "test_nothing_listening_is_unreachable"),
            *_by("contracts/test_http_probe", "test_a_private_address_nobody_wrote_is_refused"),
        ),
        NEVER,
    ),
    _upstream(
        "TLS fails: the certificate is not trusted, or there is none",
        "No connection, no request; administrators are told why",
        "unreachable",
        _by("contracts/test_http_pool", "test_tls_is_spoken_and_certificates_are_checked"),
        NEVER,
    ),
    _upstream(
        "Connecting takes too long",
        "It is given up after 10 s",
        "unreachable",
        _by("contracts/test_http_pool", "test_connecting_is_bounded_in_time"),
        NEVER,
    ),
    _upstream(
        "All places of `max_in_flight` stay taken",
        "The call waits its turn for `timeout_s`, then it is not sent",
        "unreachable",
        _by(LOST, "test_a_call_that_found_no_room_was_not_sent"),
        NEVER,
    ),
    _upstream(
        "It failed five times in a row",
        "It is left alone for a moment, which `retryAfterS` tells; then one call tries it",
        "unreachable",
        (
            *_by(LOST, "test_an_upstream_that_keeps_failing_is_left_alone"),
            *_by(
                "behaviour/test_catalogue",
                "test_failures_in_a_row_open_the_circuit_and_a_probe_closes_it",
            ),
        ),
        NEVER,
    ),
    _upstream(
        "It hangs before its answer, within the head, the body or the stream",
        "After `timeout_s` of silence it is given up; the connection is closed, a legacy upstream gets "
        "`notifications/cancelled`",
        "timeout",
        _by(BROKEN, "test_silence_is_a_timeout_and_the_upstream_is_told"),
    ),
    _upstream(
        "It reports progress for ever",
        "After `timeout_cap_s` it is given up",
        "timeout",
        (
            *_by(BROKEN, "test_silence_is_a_timeout_and_the_upstream_is_told"),
            *_by(
                "contracts/test_http_modern",
                "test_progress_does_not_keep_a_call_alive_beyond_its_cap",
            ),
        ),
    ),
    _upstream(
        "It floods: a body beyond 32 MiB, an event beyond 8 MiB, a head beyond 64 KiB, interim answers "
        "without end",
        "The connection is closed",
        "violation",
        _by(BROKEN, "test_a_flood_is_cut_off"),
    ),
    FailureLine(
        "upstream",
        "It sends faster than the caller reads",
        "It is read no faster than its caller takes",
        "the call's own answer",
        SAME,
        "as any call",
        RAN,
        _by(
            "contracts/test_http_modern",
            "test_an_upstream_is_read_no_faster_than_its_caller_takes",
        ),
    ),
    _upstream(
        "It closes or resets the connection before its answer, within the body or the stream, or "
        "ends the stream without an answer",
        "A stream with event ids of a legacy upstream is taken up again with GET; the request is not "
        "sent again",
        "disconnected",
        (
            *_by(BROKEN, "test_an_answer_cut_off_is_said_and_not_asked_for_again"),
            *_by(
                "contracts/test_http_legacy",
                "test_a_broken_stream_is_taken_up_again_and_the_call_not_sent_again",
                "test_a_stream_that_cannot_be_taken_up_again_is_a_disconnection",
            ),
        ),
    ),
    _upstream(
        "It closes an idle connection just as a call goes out on it",
        "One that was seen to be closed costs nothing; what was sent is not sent again",
        "disconnected",
        (
            *_by(
                LOST,
                "test_an_idle_connection_that_was_closed_costs_nothing_and_one_closed_on_us_is_not_"
                "tried_again",
            ),
            *_by(
                "contracts/test_http_pool",
                "test_an_idle_connection_is_closed_before_the_upstream_would",
                "test_a_connection_lost_after_sending_is_not_tried_again",
            ),
        ),
    ),
    _upstream(
        "Its answer is garbage: no HTTP, a page, nothing, no JSON-RPC, no UTF-8, no object, nested too "
        "deeply, an unreadable error, an unknown `resultType`",
        "The answer is dropped",
        "violation",
        (
            *_by(BROKEN, "test_garbage_is_a_violation_of_that_call"),
            *_by(
                "contracts/test_http_modern",
                "test_a_result_of_unknown_type_breaks_the_protocol",
                "test_an_answer_that_is_none_breaks_the_protocol",
            ),
        ),
    ),
    _upstream(
        "It answers another request than the one that was sent",
        "The answer is dropped; answers nobody waits for end the connection",
        "violation",
        (
            *_by(BROKEN, "test_garbage_is_a_violation_of_that_call"),
            *_by("contracts/test_http_pool", "test_an_answer_nobody_asked_for_ends_the_connection"),
        ),
    ),
    _upstream(
        "It answers with 401, 403, 407, 408, 418, 429 or 5xx",
        "The status is told, and `retryAfterS` where it names one; its words and challenges are not",
        "status",
        (
            *_by(BROKEN, "test_a_status_is_told_and_not_tried_again"),
            *_by(
                "contracts/test_http_modern",
                "test_an_overload_in_the_words_of_the_protocol_is_still_an_overload",
            ),
        ),
    ),
    _upstream(
        "It redirects a call, to its own origin or to another",
        "The call is not sent elsewhere; only the first contact follows redirects, within the origin",
        "status",
        (
            *_by(BROKEN, "test_a_redirected_call_goes_nowhere"),
            *_by(
                "contracts/test_http_probe",
                "test_a_redirect_within_the_origin_is_followed_and_kept",
                "test_a_redirect_to_another_origin_is_not_followed",
            ),
        ),
    ),
    FailureLine(
        "upstream",
        "It answers with an error of its protocol",
        "The error keeps its code, message and data where they mean the same to the caller; −32020, "
        "−32022 and other reserved codes become −32603",
        "the error; 400 or 404 for the codes that travel so, else 200; −32002 is −32602",
        "200 and the error; a missing resource is −32002; −32021 is −32603",
        "failed, error, with the upstream's code",
        NOT_AGAIN,
        (
            *_by(
                ERRORS,
                "test_what_means_the_same_in_both_eras_crosses_as_it_is",
                "test_what_means_nothing_in_the_callers_era_is_said_otherwise",
                "test_a_capability_the_caller_did_not_declare_is_named_to_it",
                "test_a_missing_resource_is_missing_in_the_callers_words",
            ),
        ),
    ),
    FailureLine(
        "upstream",
        "A modern upstream refuses header fields or revision before it runs anything (−32020, −32022)",
        "The tool is listed anew, or another revision taken, and the request sent once more",
        "the second answer",
        SAME,
        "as it ended",
        "as any call",
        (
            *_by(
                "contracts/test_http_modern",
                "test_a_changed_header_map_is_fetched_once_and_followed",
                "test_a_revision_that_is_refused_is_tried_once_more",
            ),
            *_by(ERRORS, "test_what_means_nothing_in_the_callers_era_is_said_otherwise"),
        ),
    ),
    FailureLine(
        "upstream",
        "A legacy upstream has lost its session (404, or 400 to nobody)",
        "Nothing ran: a session is opened anew and the request sent once more; the second time its "
        "words are passed on",
        "the second answer",
        SAME,
        "as it ended",
        "as any call",
        _by(
            LOST,
            "test_a_session_the_upstream_lost_is_opened_anew_before_anything_ran",
            "test_a_session_that_is_lost_again_is_not_opened_for_ever",
        ),
    ),
    FailureLine(
        "upstream",
        "It speaks another era than it did, after an upgrade or a downgrade",
        "The refusal is told; the upstream is asked anew what it speaks before the next call",
        "failure `status`, or its error",
        SAME,
        "failed, status or error",
        NEVER,
        (
            *_by(
                LOST,
                "test_an_upstream_of_another_era_than_a_moment_ago_refuses_and_nothing_is_executed",
            ),
            *_by(
                "contracts/test_http_probe", "test_an_upstream_that_changed_its_era_is_asked_anew"
            ),
        ),
    ),
    FailureLine(
        "upstream",
        "The first contact is answered with 401, 403, 429, 5xx or silence",
        "It says nothing about the era, which stays open; the upstream is asked again",
        "failure `status` or `unreachable`",
        SAME,
        "failed, status or unreachable",
        NEVER,
        _by(
            "contracts/test_http_probe",
            "test_a_status_about_access_or_load_pins_nothing",
            "test_a_lost_connection_pins_nothing",
            "test_who_asks_for_credentials_is_quoted_to_the_caller",
        ),
    ),
    FailureLine(
        "upstream",
        "It cannot be listed: away, asleep, garbage",
        "Its last known tools stay listed; one never listed is absent and marked; the others are "
        "listed at once",
        "the list, with `io.portico/upstreams` in its `_meta`",
        SAME,
        "ok",
        NEVER,
        (
            *_by(
                "behaviour/test_many_upstreams",
                "test_lists_come_at_once_and_say_what_is_missing",
                "test_a_broken_upstream_costs_only_its_own_tools",
            ),
            *_by(
                "behaviour/test_catalogue",
                "test_one_that_hangs_one_that_refuses_and_one_that_works_are_told_apart",
                "test_a_listing_outlives_its_upstream_and_the_process",
            ),
        ),
    ),
    FailureLine(
        "upstream",
        "One of its definitions is malformed",
        "That one is left out and named to administrators; the others are listed",
        "the list without it",
        SAME,
        "ok",
        NEVER,
        _by("properties/test_selection", "test_one_malformed_tool_hides_no_other"),
    ),
    FailureLine(
        "upstream",
        "What is no tool call fails: a prompt, a resource, a completion",
        "As for tools, told as an error with the same note in `data`",
        "200, −32603, id echoed",
        SAME,
        "failed, with the kind",
        NOT_AGAIN,
        _by(BROKEN, "test_what_is_no_tool_call_fails_with_an_error"),
    ),
    FailureLine(
        "upstream",
        "It calls a JSON-RPC answer something else than JSON",
        "The answer is read for what it is",
        "the call's own answer",
        SAME,
        "as any call",
        "as any call",
        _by(BROKEN, "test_what_an_answer_is_called_does_not_matter"),
    ),
    FailureLine(
        "upstream",
        "It asks for input that this caller cannot be asked for",
        "The upstream is told so; what it makes of that is the answer",
        "400, −32021 with `requiredCapabilities`, or the upstream's own answer",
        "failure `unsupported`, or the upstream's own answer",
        "as it ended",
        NOT_AGAIN,
        (
            *_by(MODERN, "test_a_modern_caller_that_declares_nothing_is_not_asked"),
            *_by(LEGACY, "test_input_that_the_client_cannot_give_is_a_clear_failure"),
            *_by(PARKED, "test_who_declares_nothing_is_not_asked"),
        ),
    ),
    FailureLine(
        "upstream",
        "A modern upstream never has enough input",
        "After ten rounds within one call of a legacy caller it is given up",
        "each round is its own request",
        "failure",
        "failed",
        NOT_AGAIN,
        _by(
            "behaviour/test_bridge_loop",
            "test_an_upstream_that_never_has_enough_fails_after_ten_rounds",
        ),
    ),
    FailureLine(
        "upstream",
        "An OpenAPI service hangs, floods, closes early or speaks no HTTP",
        "As for MCP upstreams",
        "failure `timeout`, `violation` or `disconnected`",
        SAME,
        "failed, with the kind",
        NOT_AGAIN,
        _by(BROKEN, "test_an_openapi_service_that_breaks_fails_that_call"),
    ),
    FailureLine(
        "upstream",
        "An OpenAPI service answers with an error, redirects, or floods",
        "Its status and words are the tool's result; redirects are not followed, answers are bounded",
        "200, result with `isError`",
        SAME,
        "ok: the tool ran and says that it failed",
        RAN,
        _by(
            "contracts/test_openapi_connector",
            "test_answers_become_content_of_their_kind",
            "test_redirects_are_told_and_not_followed",
            "test_an_answer_in_a_content_coding_is_read_and_bounded",
        ),
    ),
    _upstream(
        "An HTTP+SSE stream breaks, or carries garbage",
        "All calls of that session end; the next call opens another",
        "disconnected",
        (
            *_by(BROKEN, "test_an_http_sse_stream_that_breaks_takes_its_calls_along"),
            *_by(
                "contracts/test_http_sse",
                "test_a_stream_that_breaks_fails_its_calls_and_the_next_call_opens_another",
                "test_garbage_on_the_stream_ends_the_session",
            ),
        ),
    ),
    _upstream(
        "An HTTP+SSE upstream takes a call and never answers it",
        "After `timeout_s` it is given up and cancelled",
        "timeout",
        _by(
            "contracts/test_http_sse",
            "test_an_acknowledged_call_without_an_answer_times_out_and_is_cancelled",
        ),
    ),
    _upstream(
        "A child dies, or is killed, under a call",
        "All its calls end; it is started again for the next one, later and later if it keeps dying",
        "disconnected",
        (
            *_by(
                LOST,
                "test_a_child_that_dies_takes_its_call_along_and_the_next_one_gets_another",
                "test_a_child_that_is_killed_under_a_call_is_a_disconnection",
            ),
            *_by(
                "contracts/test_stdio_connector",
                "test_a_child_that_keeps_dying_rests_longer_and_longer",
            ),
        ),
    ),
    _upstream(
        "A child cannot be started, or ends before its handshake",
        "Its standard error is shown to administrators only",
        "unreachable",
        _by(
            "contracts/test_stdio_connector",
            "test_a_command_that_does_not_exist_is_named",
            "test_a_child_that_dies_at_its_start_is_quoted_to_administrators_only",
        ),
        NEVER,
    ),
    _upstream(
        "A child writes lines that are no messages",
        "They are kept as a log; a call whose answer was such a line waits for `timeout_s`",
        "timeout",
        (
            *_by(
                LOST,
                "test_lines_of_a_child_that_are_no_messages_harm_no_call",
                "test_a_child_whose_answer_is_no_message_is_silent_to_its_caller",
            ),
            *_by("contracts/test_stdio_connector", "test_what_is_no_message_is_kept_as_a_log"),
        ),
    ),
    _upstream(
        "A child writes a line of more than 32 MiB",
        "The child is ended",
        "disconnected",
        (
            *_by(LOST, "test_a_line_without_end_ends_the_child"),
            *_by("behaviour/test_children", "test_a_frame_beyond_the_limit_ends_the_connection"),
        ),
    ),
    FailureLine(
        "upstream",
        "It asks, notifies or reports what belongs to no call",
        "It is passed over; a request is answered with −32601",
        "the call's own answer",
        SAME,
        "as any call",
        "as any call",
        (
            *_by(
                "contracts/test_http_modern", "test_messages_that_belong_to_nobody_are_passed_over"
            ),
            *_by(LOST, "test_lines_of_a_child_that_are_no_messages_harm_no_call"),
        ),
    ),
)

_PORTICO = (
    FailureLine(
        "portico",
        "The record is full: no room on the disk, or beyond the largest file",
        "Room is reserved before a call runs: calls are refused, and never after they ran",
        "503, −31503, `Retry-After`, id echoed",
        SAME,
        "nothing can be",
        NEVER,
        (
            *_by(REFUSALS, "test_what_cannot_be_kept_is_not_done"),
            *_by(
                "behaviour/test_record_crash",
                "test_past_the_largest_file_it_refuses_before_calls_run_and_never_after",
                "test_of_a_write_that_the_disk_cut_short_only_whole_entries_are_kept",
            ),
        ),
    ),
    FailureLine(
        "portico",
        "The store is away while the record is kept there (`level: stored`)",
        "Calls are refused until it is back; what was written meanwhile is stored then",
        "503, −31503, `Retry-After`",
        SAME,
        "in the file, stored later",
        NEVER,
        _by(
            "behaviour/test_record",
            "test_while_the_store_is_away_calls_are_refused_and_nothing_is_lost",
        ),
    ),
    FailureLine(
        "portico",
        "Something of ours crashes under a call",
        "The caller gets the call id, the log the reason",
        "200, −32603, id echoed",
        SAME,
        "failed, internal",
        NOT_AGAIN,
        (
            *_by(REFUSALS, "test_a_crash_says_nothing_but_the_call_id"),
            *_by("behaviour/test_pipeline", "test_a_provider_that_crashes_is_recorded_as_failed"),
        ),
    ),
    FailureLine(
        "portico",
        "The process is killed",
        "Every call whose answer was seen is in the record; children end; the next start cuts a torn "
        "tail, keeps it and says so",
        "the end of the connection",
        SAME,
        "all that was answered",
        NOT_AGAIN,
        (
            *_by(
                "behaviour/test_kill",
                "test_every_answer_that_was_seen_is_in_the_record_after_a_kill",
            ),
            *_by(
                "behaviour/test_children",
                "test_killing_the_hub_ends_children_and_their_children_and_the_watchdog",
            ),
            *_by(
                "behaviour/test_record",
                "test_a_torn_tail_is_cut_kept_and_recorded_and_is_no_tampering",
            ),
        ),
    ),
    FailureLine(
        "portico",
        "It is told to stop",
        "`/readyz` answers 503, new calls are refused; those under way have 30 s; parked ones are "
        "given up, which their upstreams are told; streams and children end",
        "new calls: 503, −31503, `Retry-After`, id echoed; others: their answer, then the end of the "
        "connection",
        SAME,
        "refused, `draining`; as any call; abandoned",
        "as any call",
        (
            *_by(
                "behaviour/test_hostile_stop",
                "test_calls_under_way_end_and_new_ones_are_refused_while_portico_stops",
            ),
            *_by(PARKED, "test_stopping_tells_the_upstream_and_the_record"),
            *_by("behaviour/test_bridge_ends", "test_on_the_way_out_nothing_is_parked_any_more"),
        ),
    ),
    FailureLine(
        "portico",
        "A snapshot cannot be compiled",
        "The one before goes on serving",
        "the call's own answer",
        SAME,
        "as any call",
        "as any call",
        _by("behaviour/test_compile", "test_a_compile_that_fails_spoils_nothing"),
    ),
    FailureLine(
        "portico",
        "The configuration file becomes a bad one",
        "The state before stays in force; the log has every problem with its place",
        "the call's own answer",
        SAME,
        "as any call",
        "as any call",
        _by(
            "behaviour/test_configuration_followed",
            "test_a_changed_file_is_applied_and_a_bad_one_changes_nothing",
        ),
    ),
    FailureLine(
        "portico",
        "The data directory is another process's, or a newer program's",
        "Portico does not start, and says who holds it",
        NOTHING,
        NOTHING,
        NOTHING,
        NEVER,
        _by(
            "behaviour/test_data_directory",
            "test_a_second_process_is_told_who_holds_it",
            "test_one_of_a_newer_program_is_refused_and_let_go",
        ),
    ),
    FailureLine(
        "portico",
        "A key is revoked, or the last grant taken away, while a stream is open",
        "The stream ends at once",
        "the stream's end",
        SAME,
        "as it was opened",
        NEVER,
        (
            *_by(
                MODERN,
                "test_losing_the_key_ends_a_listen_stream_at_once",
                "test_losing_every_grant_ends_a_listen_stream",
            ),
            *_by(LEGACY, "test_losing_the_key_closes_the_stream"),
        ),
    ),
    FailureLine(
        "portico",
        "Portico was restarted, or has forgotten a session that was idle for long",
        "A legacy session goes on with defaults and is told once that lists may differ",
        "nothing to notice",
        "the call's own answer",
        "as any call",
        "as any call",
        _by(
            LEGACY,
            "test_a_session_survives_a_restart_and_is_told_once_that_lists_may_differ",
            "test_idle_sessions_make_room_for_others_and_begin_again_when_they_come_back",
        ),
    ),
)

FAILURES: Final = (*_CLIENTS, *_UPSTREAMS, *_PORTICO)
