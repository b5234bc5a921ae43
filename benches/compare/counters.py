"""What a process has used so far, from its clock and from /proc. Linux, `proc(5)`."""

import pathlib
import re
import time


def cpu_seconds(pid):
    """User and system time of a process with all its threads, those that have ended, too."""
    # What clock_getcpuclockid(3) makes of a process: /proc/PID/stat counts hundredths of a second only.
    return time.clock_gettime(~pid << 3 | 2)


def context_switches(pid):
    """Voluntary and other context switches of all threads that there are."""
    total = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        status = (task / "status").read_text()
        total += sum(map(int, re.findall(r"ctxt_switches:\s+(\d+)", status)))
    return total


def resident(pid):
    """Bytes in memory."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) << 10


class Used:
    """What a process uses from here on. Without a process (a direct connection): nothing."""

    def __init__(self, pid):
        self.pid = pid
        self.before = self._now()

    def _now(self):
        return (cpu_seconds(self.pid), context_switches(self.pid)) if self.pid else (0, 0)

    def so_far(self):
        """Seconds of CPU, and context switches."""
        return tuple(now - before for now, before in zip(self._now(), self.before))
