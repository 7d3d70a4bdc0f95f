"""One of two real ranks: computes the losses of its case in a process that gloo connects with the other.

    python rank.py FOLDER RANK PORT

The folder has a case for each rank, `0.json` and `1.json`; the losses go into `losses-RANK.json`.
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist
from accelerate import PartialState

from detr_conformance.options import CheckOptions
from detr_conformance.properties.case_json import from_json
from detr_conformance.resolve import resolve


def main(folder: Path, rank: int, name: str) -> None:
    """Meet the other, and compute."""
    store, patience = dist.FileStore(str(folder / "store")), timedelta(seconds=60)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=patience)
    PartialState(cpu=True)
    port, _ = resolve(CheckOptions(port=name))
    result = port.loss(from_json((folder / f"{rank}.json").read_text()))
    losses = {key: float(loss) for key, loss in result.losses.items()}
    (folder / f"losses-{rank}.json").write_text(json.dumps(losses))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
