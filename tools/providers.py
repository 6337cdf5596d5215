"""Write or check et_core/registry/providers.json: which plugin of this repository provides which name.

python tools/providers.py --check
python tools/providers.py --write
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

from et_core.registry import GROUP, PluginSet

ROOT = Path(__file__).resolve().parents[1]
COMMAND = "python tools/providers.py --write"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Keep the table of who provides which name.")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--check", action="store_true", help="fail if the file is not up to date")
    action.add_argument("--write", action="store_true", help="write the file")
    options = parser.parse_args(arguments)
    path = options.root / "et_core" / "registry" / "providers.json"
    text = render(read_providers(options.root))
    if options.write:
        path.write_text(text, "utf-8")
    elif not path.is_file() or path.read_text("utf-8") != text:
        sys.stderr.write(f"{path.relative_to(options.root)} is not up to date. Run: {COMMAND}\n")
        return 1
    return 0


def read_providers(root: Path) -> dict[str, dict[str, str]]:
    """Load every plugin under *root* and return {plural of the kind: {name or alias: distribution}}."""
    found: dict[str, dict[str, str]] = {}
    for plugin in PluginSet(_entry_points(root), strict=True).plugins:
        for entry in plugin.entries:
            for name in (entry.name, *entry.aliases):
                other = found.setdefault(entry.kind, {}).setdefault(name, plugin.distribution)
                if other != plugin.distribution:
                    raise SystemExit(f"{entry.kind}: {name!r} is registered by {other} and by {plugin.distribution}.")
    return found


def render(providers: dict[str, dict[str, str]]) -> str:
    return json.dumps(providers, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _entry_points(root: Path) -> list[EntryPoint]:
    points = []
    for path in sorted(root.glob("plugins/*/pyproject.toml")):
        sys.path.insert(0, str(path.parent))
        declared = tomllib.loads(path.read_text("utf-8"))["project"]["entry-points"][GROUP]
        points += [EntryPoint(name, value, GROUP) for name, value in declared.items()]
    return points


if __name__ == "__main__":
    sys.exit(main())
