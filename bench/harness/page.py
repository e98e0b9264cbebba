"""``docs/benchmarks.md``, put together from the reports that were last published."""

from __future__ import annotations

from collections.abc import Iterable

from bench.harness.places import PUBLISHED, ROOT

_PAGE = ROOT / "docs" / "benchmarks.md"

_INTRODUCTION = """\
# Benchmarks

How fast Postroom is, beside what limits it and what teams use today. This page is written by
`python -m bench --publish`; every figure on it comes from the JSON file that its section names.

How to read it:

- An absolute figure says something about the machine that it was measured on. What carries over
  is a **ratio** to something that ran on the same machine in the same minutes: contenders take
  turns (A B C, A B C, …), and a ratio is the median, over the rounds, of neighbours compared.
- The limit is Postfix's `smtp-source -s 10 -d` sending into `smtp-sink`: a C program that stores
  nothing, renders nothing and retries nothing. Postroom records every recipient's outcome, and an
  attempt with the relay's reply, durably (`fsync`, PostgreSQL's `synchronous_commit`, SQLite's
  `synchronous=FULL`).
- `smtp-sink` and the databases run on the same cores as the program that is measured.
- Peers are the published packages, each in an environment of its own, set up for throughput as
  their documentation advises. *Durable* ones keep the mail in a database or a broker: those are
  what Postroom is compared with. The others are there to show what durability costs.
- Postroom and the peers in Python run on one interpreter, the one that the bench was started
  with: it should be built with profile-guided optimisation, as distributions ship it.
- A bar is what we set out to reach. One that was missed is shown like one that was met.

Run them yourself on a quiet machine: `make bench` for the short form, `python -m bench NAME` for
one in full, `python -m bench NAME --profile` to see where our worker's time goes.
"""


def write(names: Iterable[str]) -> None:
    """Write the page from the published reports among ``names``, in this order."""
    sections = [
        # A section stands in a folder of its own; on the page its picture is one folder down.
        (PUBLISHED / f"{name}.md")
        .read_text(encoding="utf-8")
        .replace(f"]({name}.svg)", f"]({PUBLISHED.name}/{name}.svg)")
        for name in names
        if (PUBLISHED / f"{name}.md").is_file()
    ]
    _PAGE.write_text("\n".join([_INTRODUCTION, *sections]), encoding="utf-8")
