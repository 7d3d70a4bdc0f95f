"""Judge the generated mutants: `python -m tests.generated.run --level smoke --every 10`.

What is already in the file of results is not judged again, so a run can be ended and taken up at any time.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import SimpleQueue

from detr_conformance import power
from detr_conformance.generated_power import section
from detr_conformance.power import LEVELS
from detr_conformance.power_text import markdown

from .figures import power_of
from .judging import RULE
from .mutants import all_mutants
from .results import FILE, Result, kills, recorded, write
from .workers import Worker

AT_ONCE = 20
"""So many results are written at a time."""


def chosen(arguments):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--level", default="smoke", choices=LEVELS)
    parser.add_argument("--every", type=int, default=1, help="judge every N-th mutant")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="number of processes")
    parser.add_argument("--json", type=Path, default=FILE, help="the file of results, which is added to")
    parser.add_argument("--figures", type=Path, help="write the figures there: conformance/generated_kills.json")
    parser.add_argument("--markdown", type=Path, help="write them there among those of the museum: docs/power.md")
    parser.add_argument("--again", action="store_true", help="judge once more what no rule has failed yet")
    return parser.parse_args(arguments)


def open_mutants(results, options) -> list[str]:
    """Those without a result, survivors of a lower level, and with `--again` all that were not killed."""
    return [name for name in list(all_mutants())[:: options.every] if is_open(results.get(name), options)]


def is_open(known, options) -> bool:
    """Whether a mutant with this result, or none, is to be judged."""
    if known is None or known.outcome == "killed":
        return known is None
    return options.again or (known.outcome == "survived" and LEVELS.index(known.level) < LEVELS.index(options.level))


def judge_all(names, level, results, count) -> Iterator[tuple[str, Result]]:
    """Each mutant with its result, as they come."""
    idle = SimpleQueue()
    workers = [Worker() for _ in range(count)]
    for worker in workers:
        idle.put(worker)

    def judge_one(name):
        worker = idle.get()
        result = worker.judged(name, level, in_order(name, results))
        idle.put(worker)
        return name, result or Result(all_mutants()[name].change, "hangs", level=level)

    with ThreadPoolExecutor(count) as threads:
        for done in as_completed([threads.submit(judge_one, name) for name in names]):
            yield done.result()
    for worker in workers:
        worker.stop()


def in_order(name, results) -> list[str]:
    """Ids of all rules: first those that have killed most mutants of the same function, then those that killed most."""
    everywhere = dict(results)  # another thread may add to it
    function = name.partition("/")[0] + "/"
    here = kills({each: result for each, result in everywhere.items() if each.startswith(function)})
    killed = kills(everywhere)
    return sorted(RULE, key=lambda rule: (-here[rule], -killed[rule]))


def killers(results) -> Iterator[str]:
    """How many mutants each rule was the first to fail."""
    yield from (f"{rule}: {number}" for rule, number in kills(results).most_common())


def main(arguments=None):
    options = chosen(arguments)
    results = recorded(options.json)
    names = open_mutants(results, options)
    for number, (name, result) in enumerate(judge_all(names, options.level, results, options.workers), start=1):
        results[name] = result
        sys.stdout.write(f"{number}/{len(names)} {name} {result.outcome} {result.rule}\n")
        sys.stdout.flush()
        if number % AT_ONCE == 0:
            write(results, options.json)
    write(results, options.json)
    generated = power_of(results)
    if options.figures is not None:
        options.figures.write_text(generated.to_json(), encoding="utf-8")
    if options.markdown is not None:
        options.markdown.write_text(markdown(power.recorded(), generated), encoding="utf-8")
    sys.stdout.write("\n".join([*section(generated), *killers(results), ""]))


if __name__ == "__main__":
    main()
