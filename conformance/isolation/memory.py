"""A limit on the memory of this process: what asks for more gets a MemoryError, and the machine stays usable."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from detr_conformance.errors import text_of

GIGABYTE = 10**9
REFUSED = re.compile(r"MemoryError|can(.t|not) allocate memory|bad_alloc|RESOURCE_EXHAUSTED", re.IGNORECASE)
"""How frameworks say that memory was refused: NumPy and Python, torch, the C library, C++, JAX."""
ON_DEVICE = re.compile(r"\b(CUDA|HIP|MPS|XPU)\b")
"""Memory of another device, which has a limit of its own."""


def limit(gigabytes: float) -> bool:
    """Allow this much more than the process holds now; False where the system cannot do that.

    What counts is RLIMIT_DATA: memory that the process may write to. Frameworks reserve address space that they never
    use, CUDA hundreds of gigabytes, so that a limit on addresses would refuse them at once.
    """
    if sys.platform != "linux":
        return False
    import resource

    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    held = int(re.findall(r"^VmData:\s+(\d+) kB", status, re.MULTILINE)[0]) * 1024
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = held + int(gigabytes * GIGABYTE)
    if most != resource.RLIM_INFINITY:
        wanted = min(wanted, most)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, most))
    return True


def lift() -> None:
    """Take the limit away, so that what has to be done after an allocation was refused can be done."""
    if sys.platform == "linux":
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def was_refused(error: BaseException) -> bool:
    """Whether an exception says that memory of this machine was refused."""
    if isinstance(error, MemoryError):
        return True
    text = f"{type(error).__name__}: {text_of(error)}"
    return bool(REFUSED.search(text)) and not ON_DEVICE.search(text)
