"""``python -m bench NAME… [--short]``: run benches, print every run, write JSON and Markdown."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from bench.harness import chart, environment, page, profile
from bench.harness.options import Options
from bench.harness.places import PUBLISHED, RESULTS
from bench.harness.report import Report

BENCHES = (
    "campaign",
    "transactional",
    "compose",
    "fanout",
    "distance",
    "latency",
    "enqueue",
    "request",
    "depth",
    "soak",
    "scale",
    "poison",
)


def main() -> None:
    """Run what the command line names."""
    parser = _parser()
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(BENCHES):
        parser.error(f"expected benches of {', '.join(BENCHES)}, got: {', '.join(unknown)}")
    options = Options(
        short=arguments.short,
        rounds=arguments.rounds or (2 if arguments.short else 3),
        recipients=arguments.recipients,
        peers=None if arguments.peers is None else frozenset(arguments.peers.split(",")),
    )
    if arguments.profile:
        os.environ[profile.VARIABLE] = "1"
    folder = PUBLISHED if arguments.publish else RESULTS
    described = environment.describe()
    for name, value in described.items():
        print(f"{name}: {value}")
    for name in arguments.names or BENCHES:
        print(f"\n{name}", flush=True)
        found: Report = import_module(f"bench.{name}").run(options)
        _write(replace(found, environment=described), folder)
        for bar in found.bars:
            print(f"  {bar}")
    if arguments.publish:
        page.write(BENCHES)


def _write(report: Report, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    forms = {"json": report.as_json(), "md": report.markdown() + "\n", "svg": chart.svg(report)}
    for suffix, text in forms.items():
        (folder / f"{report.name}.{suffix}").write_text(text, encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    known = ", ".join(BENCHES)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{known} (default: all)")
    parser.add_argument("--short", action="store_true", help="smaller runs, for a look")
    parser.add_argument("--rounds", type=int, help="runs of each contender (3; short: 2)")
    parser.add_argument("--recipients", type=int, help="mails a run, where a number is asked for")
    parser.add_argument("--peers", help="peers to run, comma-separated; none (all)")
    parser.add_argument(
        "--profile", action="store_true", help="sample our workers, print where time goes"
    )
    parser.add_argument("--publish", action="store_true", help="write docs/benchmarks.md")
    return parser


if __name__ == "__main__":
    main()
