"""Parts: what one virtual server exposes of one upstream, the unit that compiling reuses.

The virtual server ``default`` has parts like any other. They hold what all others expose of an
upstream, each once for equal definitions and overrides, and, as it is, what nobody else includes.
"""

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from types import MappingProxyType

from msgspec import Struct

from hub.catalog.definitions import Definitions, Described
from hub.catalog.names import Names, Wish, candidates, legal
from hub.catalog.rewriting import Rewritten, rewrite
from hub.catalog.selection import Selected, select, unmatched
from hub.catalog.steps import Steps
from hub.domain.call import DEFAULT_VIRTUAL_SERVER
from hub.domain.catalog import KINDS, CapabilityId, Exposure, Kind
from hub.domain.desired import GrantSpec, Include, Override, Prefix
from hub.policy.tables import mask_of, mask_of_all

_Precedence = tuple[bool, bool, str, str, str]


class Bits:
    """Hands out places in bitmaps; who asks again with the same key gets the same place."""

    def __init__(self) -> None:
        self._places: dict[tuple[object, ...], int] = {}

    def __len__(self) -> int:
        return len(self._places)

    def of(self, *key: object) -> int:
        """The place of ``key``."""
        return self._places.setdefault(key, len(self._places))


class Want(Struct, frozen=True, kw_only=True, gc=False):
    """An exposure before it has a name."""

    described: Described
    override: Override | None = None
    label: str = ""
    """Tells apart appearances of one capability in one virtual server; plain ones have none."""
    default_label: str | None = None
    """The label of its appearance in ``default``; None: it has no other."""
    origin: Exposure | None = None
    """The exposure elsewhere that this one repeats under a name of its own."""

    @property
    def key(self) -> tuple[CapabilityId, str]:
        """What stays the same when definition or override change."""
        return self.described.definition.id, self.label


class Made(Struct, frozen=True, gc=False):
    """What became of a want."""

    want: Want
    exposure: Exposure
    problems: tuple[str, ...] = ()


class PartSpec(Struct, frozen=True, kw_only=True):
    """What a part is made from, but for definitions."""

    virtual_server: str
    upstream: str
    includes: tuple[Include, ...] = ()
    prefix: Prefix = "auto"
    reserved: frozenset[str] = frozenset()
    """Folded names of Portico's own tools here."""


class Part:
    """What one virtual server exposes of one upstream; compared by identity."""

    __slots__ = (
        "_all",
        "_masks",
        "exposures",
        "made",
        "problems",
        "shadowed",
        "upstream_bits",
        "wants",
    )

    def __init__(
        self,
        upstream: str,
        bit: int,
        made: Mapping[tuple[CapabilityId, str], Made] = MappingProxyType({}),
        shadowed: Sequence[Made] = (),
        problems: Sequence[str] = (),
    ) -> None:
        self.upstream_bits: Mapping[str, int] = {upstream: bit}
        self.made = made
        """By key of the want."""
        self.shadowed = tuple(one.exposure for one in shadowed)
        """What has no name here: its exposures show nothing."""
        self.wants = (*(one.want for one in made.values()), *(one.want for one in shadowed))
        """Everything that is included."""
        self.problems = (
            *problems,
            *(problem for one in made.values() for problem in one.problems),
        )
        """What an administrator should know, one sentence each."""
        by_kind: dict[Kind, dict[str, Exposure]] = {kind: {} for kind in KINDS}
        for one in sorted(made.values(), key=lambda one: one.exposure.name):
            by_kind[one.exposure.kind][one.exposure.name] = one.exposure
        self.exposures: Mapping[Kind, Mapping[str, Exposure]] = by_kind
        """By kind and exposed name, sorted by name."""
        self._all: int | None = None
        self._masks: dict[tuple[tuple[str, ...] | None, ...], int] = {}

    def of_kind(self, kind: Kind) -> Mapping[str, Exposure]:
        """The exposures of one kind, by exposed name."""
        return self.exposures[kind]

    def mask_of_all(self) -> int:
        """Every bit of this part."""
        if self._all is None:
            self._all = mask_of_all(self)
        return self._all

    def mask_of(self, grant: GrantSpec) -> int:
        """The bits that a grant names here; equal lists are looked up once."""
        key = (grant.tools, grant.resources, grant.prompts)
        mask = self._masks.get(key)
        if mask is None:
            mask = self._masks[key] = mask_of(grant, self)
        return mask


def part_of(
    spec: PartSpec, definitions: Definitions | None, names: Names, bits: Bits, before: Part | None
) -> Steps[Part]:
    """What a configured virtual server includes of an upstream; nothing where it was never listed."""
    if definitions is None:
        return Part(spec.upstream, bits.of("", spec.upstream))
    wants: list[Want] = []
    for selected in select(spec.includes, definitions):
        yield
        wants.append(
            Want(
                described=selected.described,
                override=selected.override,
                label=_label(selected),
                default_label=_default_label(spec.virtual_server, selected),
            )
        )
    notes = list(unmatched(spec.includes, definitions))
    return (yield from _build(spec, wants, names, bits, before, notes))


def part_of_default(
    spec: PartSpec,
    definitions: Definitions | None,
    others: Sequence[Part],
    names: Names,
    bits: Bits,
    before: Part | None,
) -> Steps[Part]:
    """What ``default`` exposes of an upstream: everything, and nothing twice.

    ``others`` are the parts of all other virtual servers for this upstream.
    """
    if definitions is None:
        return Part(spec.upstream, bits.of("", spec.upstream))
    wants = yield from _wants_of_default(spec, definitions, others)
    notes = list(unmatched(spec.includes, definitions))
    return (yield from _build(spec, wants, names, bits, before, notes))


def _wants_of_default(
    spec: PartSpec, definitions: Definitions, others: Iterable[Part]
) -> Steps[list[Want]]:
    wants: dict[tuple[CapabilityId, str], Want] = {}
    included: set[CapabilityId] = set()
    for part in others:
        for want in part.wants:
            yield
            included.add(want.described.definition.id)
            made = part.made.get(want.key)
            repeated = Want(
                described=want.described,
                override=want.override,
                label=want.default_label or "",
                origin=made.exposure if made is not None else None,
            )
            wants.setdefault(repeated.key, repeated)
    for selected in select(spec.includes, definitions):
        own = Want(
            described=selected.described,
            override=selected.override,
            label=_default_label(spec.virtual_server, selected),
        )
        included.add(own.described.definition.id)
        wants.setdefault(own.key, own)
    for kind in KINDS:
        for described in definitions.by_kind[kind]:
            yield
            if described.definition.id not in included:
                plain = Want(described=described)
                wants[plain.key] = plain
    return list(wants.values())


def _build(
    spec: PartSpec,
    wants: Iterable[Want],
    names: Names,
    bits: Bits,
    before: Part | None,
    notes: Iterable[str],
) -> Steps[Part]:
    """Give every want a name, a place and its bytes; what ``before`` made the same is kept."""
    made: dict[tuple[CapabilityId, str], Made] = {}
    shadowed: list[Made] = []
    problems = list(notes)
    taken: dict[CapabilityId, set[str]] = {}
    wished: list[tuple[_Precedence, Wish, Want]] = []
    for want in wants:
        yield
        wish = _wish(spec, want)
        wished.append((_precedence(wish, want), wish, want))
    wished.sort(key=itemgetter(0))
    for _, wish, want in wished:
        yield
        kind = wish.capability.kind
        spoken_for = taken.setdefault(
            wish.capability, set(spec.reserved) if kind == "tool" else set()
        )
        name = names.assign(wish, spec.prefix, spoken_for)
        known = before.made.get(want.key) if before is not None else None
        if name is None:
            name = next(candidates(wish, spec.prefix))
            nothing = Rewritten(fragment=b"")
            shadowed.append(Made(want, _exposure(spec, want, name, nothing, bits)))
            problems.append(f"{kind} {name!r} is shadowed: the name is another's")
        elif known is not None and _is_same(known, want, name):
            made[want.key] = Made(want, known.exposure, known.problems)
        else:
            shown = _shown(want, name)
            made[want.key] = Made(
                want, _exposure(spec, want, name, shown, bits), _complaints(wish, name, shown)
            )
    return Part(spec.upstream, bits.of("", spec.upstream), made, shadowed, problems)


def _default_label(virtual_server: str, selected: Selected) -> str:
    """What tells an appearance in ``default`` apart: nothing for plain ones, which all are one."""
    if selected.override is None:
        return ""
    return f"{virtual_server}/{_label(selected)}"


def _label(selected: Selected) -> str:
    override = selected.override
    return override.name or "" if override is not None else ""


def _wish(spec: PartSpec, want: Want) -> Wish:
    identity = want.described.definition.id
    renamed = want.override.name if want.override is not None else None
    is_named = identity.kind in ("tool", "prompt")
    return Wish(
        virtual_server=spec.virtual_server,
        capability=identity,
        name=renamed if renamed is not None and is_named else identity.name,
        explicit=renamed is not None,
        variant=want.label if spec.virtual_server == DEFAULT_VIRTUAL_SERVER else "",
    )


def _precedence(wish: Wish, want: Want) -> _Precedence:
    """Who comes first among those that come together: written names, then those that stay as is."""
    kind, original = wish.capability.kind, wish.capability.name
    as_it_is = kind in ("resource", "template") or legal(wish.name, "") == wish.name
    return not wish.explicit, not as_it_is, kind, original, want.label


def _complaints(wish: Wish, name: str, shown: Rewritten) -> tuple[str, ...]:
    """What an override cannot have; said once, by the virtual server that asks for it."""
    if wish.virtual_server == DEFAULT_VIRTUAL_SERVER:
        return ()
    kind = wish.capability.kind
    complaints = [f"{kind} {name!r} has {problem}" for problem in shown.problems]
    if wish.explicit and kind in ("tool", "prompt") and name != wish.name:
        complaints.append(f"{kind} {wish.name!r} is exposed as {name!r}: the name is another's")
    return tuple(complaints)


def _is_same(known: Made, want: Want, name: str) -> bool:
    return (
        known.exposure.name == name
        and known.want.described is want.described
        and known.want.override == want.override
        and known.want.default_label == want.default_label
    )


def _shown(want: Want, name: str) -> Rewritten:
    origin = want.origin
    if origin is None or origin.name != name:
        return rewrite(want.described, name, want.override)
    return Rewritten(
        fragment=origin.fragment,
        arguments=origin.arguments,
        param_headers=origin.param_headers,
        destructive=origin.destructive,
        input_schema=origin.input_schema,
    )


def _exposure(spec: PartSpec, want: Want, name: str, shown: Rewritten, bits: Bits) -> Exposure:
    definition = want.described.definition
    in_default = None
    if want.default_label is not None and shown.fragment:
        in_default = bits.of(DEFAULT_VIRTUAL_SERVER, definition.id, want.default_label)
    return Exposure(
        name=name,
        kind=definition.id.kind,
        capability=definition.id,
        digest=definition.digest,
        bit=bits.of(spec.virtual_server, definition.id, want.label),
        default_bit=in_default,
        fragment=shown.fragment,
        arguments=shown.arguments,
        param_headers=shown.param_headers,
        upstream_param_headers=want.described.param_headers,
        destructive=shown.destructive,
        input_schema=shown.input_schema,
    )
