"""Who owns an object of the desired state."""

from typing import Literal

Source = Literal["file", "api"]
"""``apply`` touches file objects only, the API its own."""
