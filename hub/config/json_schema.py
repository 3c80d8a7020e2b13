"""The JSON Schema of ``portico.yaml``, for editors: ``python -m hub.config.json_schema``.

Editors find it through a first line ``# yaml-language-server: $schema=…/portico.schema.json``.
"""

import json
import sys
from typing import Any, Final

from hub.config.models import PorticoFile

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """The schema as plain values."""
    return {"$schema": DIALECT, **PorticoFile.model_json_schema()}


def schema_text() -> str:
    """The schema as the text of ``docs/portico.schema.json``."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
