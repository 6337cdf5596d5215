"""Start-up: ``et --help``, ``et plugins list`` (also with ten more plugins, half of them broken), and the first
prediction of a cold process. Whole processes, the median of several.

    python benchmarks/startup.py [--rounds 9]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ET = [sys.executable, "-m", "et_core"]
HEAVY = ("torch", "transformers", "numpy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        crowd = Path(folder) / "plugins"
        add_plugins(crowd)
        run = train_something(Path(folder))
        rows = Path(folder) / "rows.jsonl"
        rows.write_text('{"text": "the kettle boils and the lid stays on"}\n', "utf-8")
        more = {"PYTHONPATH": str(crowd)}
        report("python -c pass", [sys.executable, "-c", "pass"], rounds)
        report("et --help", [*ET, "--help"], rounds)
        report("et plugins list", [*ET, "plugins", "list"], rounds)
        report("et --help, 10 more plugins, 5 broken", [*ET, "--help"], rounds, more)
        report("et plugins list, 10 more, 5 broken", [*ET, "plugins", "list"], rounds, more)
        predict = [*ET, "predict", str(run), "--input", str(rows), "--output", "-", "--precision", "fp32"]
        report("first prediction, minilm-l6-en", predict, 3)
        # What any program that builds a BERT with transformers pays.
        report("from transformers import BertModel", [sys.executable, "-c", "from transformers import BertModel"], 3)
    for arguments in (["--help"], ["plugins", "list"]):
        print(f"et {' '.join(arguments)} imports {', '.join(loaded(arguments)) or 'none'} of {', '.join(HEAVY)}")


def report(name: str, command: list[str], rounds: int, environment: dict[str, str] | None = None) -> None:
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, **(environment or {})})
        times.append(time.perf_counter() - start)
    warm = times[1:]
    print(f"{name:<42} median {statistics.median(warm):.3f} s, from {min(warm):.3f} to {max(warm):.3f}")


def add_plugins(folder: Path) -> None:
    for number in range(10):
        module = f"crowd{number}"
        info = folder / f"{module}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n", "utf-8")
        (info / "entry_points.txt").write_text(f"[et.plugins]\n{module} = {module}\n", "utf-8")
        broken = "import a_module_that_is_not_there\n" if number % 2 else ""
        (folder / f"{module}.py").write_text(
            f"{broken}from et_core.hooks import hookimpl\nET_API = 1\n\n@hookimpl\n"
            f"def et_register_backbones(register):\n    register('{module}', 'x:X', summary='A plugin')\n",
            "utf-8",
        )


def train_something(folder: Path) -> Path:
    import et_core as et

    rows = [{"text": text, "label": label} for text, label in (("good", "yes"), ("bad", "no"))] * 4
    config = {"app": "classification", "model": "minilm-l6-en@zoo", "data": {"train": rows}, "train": {"max_steps": 1}}
    return et.train({**config, "output": str(folder / "run")}, progress=False).path


def loaded(arguments: list[str]) -> list[str]:
    code = (
        "import sys; from et_core.cli.main import main; sys.argv = ['et', *sys.argv[1:]]\n"
        "try: main()\nexcept SystemExit: pass\n"
        f"print('LOADED', *[name for name in {HEAVY!r} if name in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True).stdout
    return output.strip().splitlines()[-1].split()[1:]


if __name__ == "__main__":
    main()
