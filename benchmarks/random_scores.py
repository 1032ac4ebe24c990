"""Returns of the random policy in every environment that D4RL has a reference minimum for.

    OMP_NUM_THREADS=1 python benchmarks/random_scores.py [--most 100] [environment ...]

Prints a JSON line an environment and writes data/benchmarks/random_scores.json after each; named
environments replace their rows in it. All episodes take about a quarter of an hour of one core;
`--most` bounds them for each environment.
"""

import argparse
import json

from arq_core.config.files import write_atomic
from arq_core.config.paths import DATA
from arq_core.experiments.random_scores import REFERENCES, measure
from arq_core.results.measured import measured
from arq_core.results.provenance import provenance

FILE = DATA / "benchmarks" / "random_scores.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=1000)
    parser.add_argument("environment", nargs="*", default=list(REFERENCES))
    given = parser.parse_args()
    for name in given.environment:
        row = measure(name, min(given.most, REFERENCES[name].episodes)) | {
            k: provenance(own=FILE)[k] for k in ("created", "commit")
        }
        print(json.dumps(row), flush=True)
        rows = (
            {r["environment"]: r for r in measured("random_scores")["rows"]}
            if FILE.exists()
            else {}
        )
        rows[name] = row
        kept = [rows[n] for n in REFERENCES if n in rows]
        write_atomic(
            FILE,
            json.dumps(
                dict(provenance(own=FILE), policy="uniform in the box", rows=kept), indent=1
            ).encode(),
        )


if __name__ == "__main__":
    main()
