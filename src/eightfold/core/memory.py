"""How much memory there is, how much this process takes, and amounts as people write them."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

from .errors import RequestError

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
THRESHOLD = -3  # M_MMAP_THRESHOLD of glibc
CGROUPS = (  # limit and use of the control group that a container is: version 2, version 1
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def read_amount(text: str) -> int:
    """Bytes of an amount such as 4GB, 1.5 GiB or 800MB. Raises RequestError."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?\s*", text, re.IGNORECASE)
    if found is None or float(found[1]) == 0:
        raise RequestError(f"{text!r} is no amount of memory", hint="expected a number and a unit, such as 4GB or 800MB")
    return int(float(found[1]) * UNITS[found[2].lower()])


def to_amount(size: float) -> str:
    """Bytes as people read them: 4.20 GB."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size:.0f} bytes"


def measure_resident() -> int:
    """Bytes of this process that are in memory now; 0 where the system does not say."""
    with suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    with suppress(ImportError, OSError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return 0


@cache
def give_back() -> None:
    """Have malloc return buffers of 4 MB and more to the system as soon as they are freed; done once, and where malloc is glibc's.

    It would otherwise keep more and more of what torch works in, which nobody could count on.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(THRESHOLD, 1 << 22)


def measure_free() -> int | None:
    """Bytes that can still be taken before something has to be swapped out or is killed; None where the system does not say."""
    found = [amount for amount in (read_available(), read_group()) if amount is not None]
    return min(found) if found else None


def read_available() -> int | None:
    with suppress(OSError, AttributeError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    with suppress(ValueError, OSError, AttributeError):  # no free pages are counted on macOS: a half of all is a fair guess
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return None


def read_group() -> int | None:
    """What the control group leaves; its page cache counts as free, since the kernel gives it back."""
    for limit, use in CGROUPS:
        with suppress(OSError, ValueError):
            most = int(Path(limit).read_text())
            statistics = Path(use).parent / "memory.stat"
            cached = sum(int(line.split()[1]) for line in statistics.read_text().splitlines() if line.split()[0] in ("file", "cache"))
            return max(0, most - int(Path(use).read_text()) + cached)
    return None
