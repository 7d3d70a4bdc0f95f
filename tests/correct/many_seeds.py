"""Judge correct ports under many seeds: `python -m tests.correct.many_seeds --level smoke --seeds 0:30`.

The built-in ports are known by name as well: `--ports optimized --seeds 0:300`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from itertools import product

from detr_conformance.options import CheckOptions
from detr_conformance.properties.judging import judge
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.rules import RULES
from detr_conformance.resolve import resolve

from .one_loss_ports import ONE_EACH, of_one_loss
from .ports import CORRECT

ACCUSATIONS = ("fail", "error")


def outcomes(port, level, seed, rules=RULES):
    """The outcome of every rule that the port's spec defines."""
    judged = PortUnderTest(port)
    for rule in rules:
        if rule.applies(judged):
            yield judge(rule, port, judged.spec, level=level, seed=seed)


def judge_all(ports, level, seeds, rules):
    """Print every accusation as it comes, and return for each port how often each verdict was given."""
    counts = {port.name: Counter() for port in ports}
    shares = dict.fromkeys(counts, 0.0)
    for seed in seeds:
        began = time.perf_counter()
        for rule, port in product(rules, ports):  # one rule's cases, and what is expected, serve all ports
            for outcome in outcomes(port, level, seed, [rule]):
                counts[port.name][outcome.verdict] += 1
                shares[port.name] = max(shares[port.name], outcome.share or 0.0)
                if outcome.verdict in ACCUSATIONS:
                    accusation = f"{outcome.rule.id} {outcome.verdict}: {outcome.message}"
                    sys.stdout.write(f"seed {seed}, {port.name}: {accusation}\n")
        sys.stdout.write(f"seed {seed}: {time.perf_counter() - began:.0f} s, {dict(sum(counts.values(), Counter()))}\n")
        sys.stdout.flush()
    return counts, shares


def named(name):
    """One of the correct ports, or a built-in one."""
    return next((port for port in CORRECT if port.name == name), None) or resolve(CheckOptions(port=name))[0]


def chosen(arguments):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--level", default="smoke")
    parser.add_argument("--seeds", default="0:30", help="first:end")
    parser.add_argument("--ports", default="", help="names, separated by commas; all of tests/correct without it")
    parser.add_argument(
        "--each-loss", action="store_true", help="ports of every spec with one classification loss each"
    )
    parser.add_argument("--rules", default="", help="ids, separated by commas; all without it")
    return parser.parse_args(arguments)


def main(arguments=None):
    options = chosen(arguments)
    first, end = map(int, options.seeds.split(":"))
    names, ids = (set(filter(None, each.split(","))) for each in (options.ports, options.rules))
    ports = [of_one_loss(*each) for each in ONE_EACH] if options.each_loss else CORRECT
    ports = [named(name) for name in sorted(names)] or ports
    rules = [rule for rule in RULES if not ids or rule.id in ids]
    counts, shares = judge_all(ports, options.level, range(first, end), rules)
    for name, verdicts in counts.items():
        false = sum(verdicts[verdict] for verdict in ACCUSATIONS)
        sys.stdout.write(f"{name}: {verdicts.total()} runs, {false} false accusations, {dict(verdicts)}, ")
        sys.stdout.write(f"largest share {shares[name]:.2g}\n")
    return any(verdicts[each] for verdicts in counts.values() for each in ACCUSATIONS)


if __name__ == "__main__":
    sys.exit(main())
