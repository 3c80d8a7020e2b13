"""Every client with every upstream: each feature crosses, or is limited as the table says."""

from typing import Any

import pytest

from tests.matrix.conftest import Pairs
from tests.matrix.features import FEATURES
from tests.matrix.limited import LIMITED
from tests.matrix.table import CLIENTS, LIMITS, ROWS, UPSTREAMS, ClientKind, UpstreamKind, limit_of


def in_a_group(client: ClientKind) -> Any:
    """Half of the clients can be tried beside the others, with a Portico of their own."""
    language = "typescript" if client.startswith("ts") else "python"
    return pytest.param(client, marks=pytest.mark.xdist_group(language))


@pytest.mark.parametrize("feature", ROWS)
@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize("client", [in_a_group(client) for client in CLIENTS])
async def test_a_feature_crosses(
    pairs: Pairs, client: ClientKind, upstream: UpstreamKind, feature: str
) -> None:
    pair = await pairs.of(client, upstream)
    limit = limit_of(feature, client, upstream)
    check = FEATURES[feature] if limit is None else LIMITED[limit.id]
    try:
        await check(pair)
    except BaseException:
        await pairs.start_anew()
        raise


def test_the_table_and_what_is_tried_are_the_same() -> None:
    assert list(FEATURES) == list(ROWS)
    assert [limit.id for limit in LIMITS if limit.feature] == list(LIMITED)
    assert all(limit.feature in ROWS for limit in LIMITS if limit.feature)
    assert all(bool(limit.feature) != bool(limit.tests) for limit in LIMITS)
