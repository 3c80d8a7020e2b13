"""The project's own files, for tests about the project itself."""

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent


def relative(path: Path) -> str:
    """A file's name as the project says it."""
    return str(path.relative_to(ROOT))


@cache
def project_files() -> list[Path]:
    """Everything that is, or would be, committed."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    return sorted(ROOT / name for name in set(listed.split("\0")) if (ROOT / name).is_file())
