"""What legacy revisions do not know yet, taken out of what goes to their callers (mcp.md row 19).

Pure. Unknown members are tolerated by every client and stay; unknown kinds of content are not, so
that those younger than the caller become text. What cannot be read is left as it is.

Source: the change logs of 2025-03-26 (audio), 2025-06-18 (resource links, structured content, titles,
elicitation) and 2025-11-25 (icons, URL elicitation, tools in sampling).
"""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from msgspec import Raw

from mcp_wire.jsonrpc import EMPTY_OBJECT, NULL, decode_batch, decode_members, raw, string_of
from mcp_wire.revisions import at_least

AUDIO_SINCE: Final = "2025-03-26"
LINKS_SINCE: Final = "2025-06-18"
"""Resource links, structured content, titles and elicitation came together."""
ICONS_SINCE: Final = "2025-11-25"
"""Icons, elicitation by URL and tools in sampling did too."""

_LISTS: Final[Mapping[str, str]] = {
    "tools/list": "tools",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
    "prompts/list": "prompts",
}
_NOTHING: Final = Raw(b"[]")
_Edit = Callable[[dict[str, Raw], str], bool]
"""Changes the members of an object for a revision; whether anything changed."""


def result_for(body: Raw, method: str, revision: str) -> Raw:
    """A result as a caller of a legacy revision understands it.

    ``body`` is the result's object, ``method`` the one it answers. Where nothing in it is new to
    the caller, it is the very same.
    """
    if at_least(revision, ICONS_SINCE):
        return body
    if method in _LISTS:
        return _edited(body, revision, lambda members, _: _each(members, _LISTS[method], revision))
    edit = _RESULTS.get(method)
    return body if edit is None else _edited(body, revision, edit)


def with_object_schemas(body: Raw) -> Raw:
    """A list of tools without the output schemas that no legacy client reads (row 18).

    Those are the ones that describe no object.
    """
    return _edited(body, "", lambda members, _: _replace(members, "tools", _schemas_of, ""))


def drop_structured(members: dict[str, Raw]) -> bool:
    """Leave a result's structured content out; what no other content says becomes text."""
    structured = members.pop("structuredContent", None)
    if structured is None:
        return False
    if members.get("content", _NOTHING) == _NOTHING and structured != NULL:
        members["content"] = raw([_text(bytes(structured).decode("utf-8", "replace"))])
    return True


def add_content(members: dict[str, Raw]) -> None:
    """Give a tool's result of a legacy upstream the content that every other one has (row 18)."""
    if "content" not in members:
        structured = members.get("structuredContent", NULL)
        words = [] if structured == NULL else [_text(bytes(structured).decode("utf-8", "replace"))]
        members["content"] = raw(words)


def can_be_asked(revision: str, method: str, mode: str = "", *, with_tools: bool = False) -> bool:
    """Whether a client of a legacy revision knows a question, whatever it declared.

    ``mode`` is that of an elicitation, where empty means ``form``; ``with_tools``: the sampling
    offers tools to the client's model.
    """
    if method == "elicitation/create":
        return at_least(revision, ICONS_SINCE if mode == "url" else LINKS_SINCE)
    if method == "sampling/createMessage":
        return not with_tools or at_least(revision, ICONS_SINCE)
    return method == "roots/list"


def askable(declared: Mapping[str, Raw], revision: str) -> dict[str, Raw]:
    """Client capabilities without those that the client's own revision does not have."""
    kept = dict(declared)
    if "elicitation" in kept and not can_be_asked(revision, "elicitation/create", "url"):
        forms = _edited(kept["elicitation"], revision, lambda m, _: _drop(m, "url"))
        by_url_alone = forms is not kept["elicitation"] and forms == EMPTY_OBJECT
        kept["elicitation"] = forms
        if by_url_alone or not can_be_asked(revision, "elicitation/create"):
            del kept["elicitation"]
    if "sampling" in kept and not can_be_asked(revision, "sampling/createMessage", with_tools=True):
        kept["sampling"] = _edited(kept["sampling"], revision, lambda m, _: _drop(m, "tools"))
    return kept


def _edited(value: Raw, revision: str, edit: _Edit) -> Raw:
    """An object with its members changed; everything that is no object stays."""
    if bytes(memoryview(value)[:1]) != b"{":
        return value
    try:
        members = decode_members(value)
        return raw(members) if edit(members, revision) else value
    except (msgspec.DecodeError, RecursionError):
        return value


def _replace(
    members: dict[str, Raw], name: str, edit: Callable[[Raw, str], Raw], revision: str
) -> bool:
    """Change one member; whether that made a difference."""
    value = members.get(name)
    if value is None:
        return False
    changed = edit(value, revision)
    members[name] = changed
    return changed is not value


def _drop(members: dict[str, Raw], *names: str) -> bool:
    found = [name for name in names if name in members]
    for name in found:
        del members[name]
    return bool(found)


def _items(value: Raw, revision: str, edit: Callable[[Raw, str], Raw]) -> Raw:
    """An array with each of its items changed."""
    if bytes(memoryview(value)[:1]) != b"[":
        return value
    items = decode_batch(value)
    changed = [edit(item, revision) for item in items]
    same = all(new is old for new, old in zip(changed, items, strict=True))
    return value if same else raw(changed)


def _each(members: dict[str, Raw], name: str, revision: str) -> bool:
    edit = _tool if name == "tools" else _definition
    return _replace(
        members,
        name,
        lambda list_, _: _items(list_, revision, lambda i, r: _edited(i, r, edit)),
        "",
    )


def _definition(members: dict[str, Raw], revision: str) -> bool:
    """A resource, template or prompt, or whoever answers."""
    changed = _drop(members, "icons")
    if at_least(revision, LINKS_SINCE):
        return changed
    changed = _drop(members, "title") or changed
    return _replace(members, "arguments", _arguments, revision) or changed


def _arguments(value: Raw, revision: str) -> Raw:
    """Those of a prompt; they have titles of their own."""
    return _items(value, revision, lambda i, r: _edited(i, r, lambda m, _: _drop(m, "title")))


def _tool(members: dict[str, Raw], revision: str) -> bool:
    """A title goes where it was before it had a member of its own: to the annotations."""
    changed = _drop(members, "icons")
    if at_least(revision, LINKS_SINCE):
        return changed
    changed = _drop(members, "outputSchema") or changed
    title = members.pop("title", None)
    if title is None:
        return changed
    annotations = members.get("annotations", Raw(b"{}"))
    members["annotations"] = _edited(annotations, revision, lambda m, _: _add(m, "title", title))
    return True


def _add(members: dict[str, Raw], name: str, value: Raw) -> bool:
    if name in members:
        return False
    members[name] = value
    return True


def _initialized(members: dict[str, Raw], revision: str) -> bool:
    return _replace(members, "serverInfo", lambda v, r: _edited(v, r, _definition), revision)


def _called(members: dict[str, Raw], revision: str) -> bool:
    """A tool's result."""
    changed = _replace(members, "content", lambda v, r: _items(v, r, _block), revision)
    if at_least(revision, LINKS_SINCE):
        return changed
    return drop_structured(members) or changed


def _prompted(members: dict[str, Raw], revision: str) -> bool:
    return _replace(
        members,
        "messages",
        lambda v, r: _items(v, r, lambda i, r: _edited(i, r, _message)),
        revision,
    )


def _message(members: dict[str, Raw], revision: str) -> bool:
    return _replace(members, "content", _block, revision)


def _block(value: Raw, revision: str) -> Raw:
    return _edited(value, revision, _content)


def _content(members: dict[str, Raw], revision: str) -> bool:
    """A block of a kind that is younger than the caller becomes text, and says what it was."""
    kind = string_of(members.get("type"))
    if kind == "resource_link":
        if at_least(revision, LINKS_SINCE):
            return _drop(members, "icons")
        return _become_text(
            members, _linked(members), "uri", "name", "title", "description", "icons"
        )
    if kind == "audio" and not at_least(revision, AUDIO_SINCE):
        named = string_of(members.get("mimeType")) or "audio"
        return _become_text(
            members, f"[{named}: a recording, which this client cannot play]", "data"
        )
    return False


def _become_text(members: dict[str, Raw], text: str, *said: str) -> bool:
    _drop(members, *said)
    members.update({name: raw(value) for name, value in _text(text).items()})
    return True


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def _linked(members: Mapping[str, Raw]) -> str:
    """A resource link in words; its address is what matters."""
    name, uri, about = (string_of(members.get(member)) for member in ("name", "uri", "description"))
    words = f"{string_of(members.get('title')) or name or 'Resource'}: {uri or ''}"
    return f"{words}\n{about}" if about else words


def _schemas_of(tools: Raw, revision: str) -> Raw:
    return _items(tools, revision, lambda tool, r: _edited(tool, r, _object_schema))


def _object_schema(members: dict[str, Raw], _: str) -> bool:
    schema = members.get("outputSchema")
    if schema is None or bytes(memoryview(schema)[:1]) != b"{":
        return _drop(members, "outputSchema")
    if string_of(decode_members(schema).get("type")) == "object":
        return False
    return _drop(members, "outputSchema")


_RESULTS: Final[Mapping[str, _Edit]] = {
    "initialize": _initialized,
    "tools/call": _called,
    "prompts/get": _prompted,
}
