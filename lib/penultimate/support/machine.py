"""What a number's reader must know of where it was made: the machine, the versions, the code."""

import hashlib
import platform
import re
from pathlib import Path

import torch


def environment(device: str) -> dict:
    """What a number's reader must know of the machine; the code version is the hash of lib/.

    instructions: the widest that PyTorch uses of the processor, such as AVX2; with others sums round otherwise, and trainings part.

    >>> list(environment("cpu"))
    ['python', 'torch', 'platform', 'device', 'instructions', 'threads', 'code']
    """
    name = torch.cuda.get_device_name(device) if str(device).startswith("cuda") else _processor()
    return {
        "python": platform.python_version(), "torch": torch.__version__, "platform": f"{platform.system()} {platform.machine()}",
        "device": name, "instructions": torch.backends.cpu.get_cpu_capability(), "threads": torch.get_num_threads(), "code": CODE_VERSION,
    }  # fmt: skip


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return f"CPU ({found[1] if found else platform.processor() or 'unknown'})"


def _code_version() -> str:
    """First 10 digits of the sha256 over the library's sources."""
    digest = hashlib.sha256()
    home = Path(__file__).resolve().parents[1]
    for path in sorted(home.rglob("*.py")):
        digest.update(path.relative_to(home).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:10]


CODE_VERSION = _code_version()  # of the code that runs, not of files edited meanwhile
