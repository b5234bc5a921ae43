"""Instructions in user space, as valgrind's callgrind counts them: of a proxy's whole life, and by what a
longer run costs more than a shorter one, of one transaction. They do not depend on the machine's mood."""

import collections
import re

import harness


def module(path):
    """Which part of the program a source file belongs to."""
    inside = re.search(r"(?:^|/)src/(\w+)(?:/|\.rs$)", path)
    crate = re.search(r"/([a-z][a-z0-9_-]*?)-\d+\.\d+\.\d+[^/]*/", path)
    if "/rustc/" in path or "/library/" in path:
        return "the standard library"
    if crate:
        return crate[1]
    if inside:
        return f"osprey::{inside[1]}"
    return "the C library and others"


def read(path):
    """The instructions of a callgrind file, by module of the line that they were compiled from."""
    counts = collections.Counter()
    files = {}
    here = ""
    of_a_call = False
    for line in path.read_text().splitlines():
        named = re.match(r"(fl|fi|fe)=\((\d+)\)(?: (.*))?$", line)
        if named:
            if named[3] is not None:
                files[named[2]] = module(named[3])
            here = files[named[2]]
        elif re.match(r"(cfi|cfl)=\((\d+)\) (.*)$", line):
            called = re.match(r"(?:cfi|cfl)=\((\d+)\) (.*)$", line)
            files[called[1]] = module(called[2])
        elif line.startswith("calls="):
            # The next line says what the call cost: that is counted where it was spent.
            of_a_call = True
        elif line[:1] in "+-*0123456789":
            cost = line.split()[1:]
            if cost and not of_a_call:
                counts[here] += int(cost[0])
            of_a_call = False
    return counts


def counted(start, run, folder, transactions):
    """The instructions of a proxy's whole life, by module, in which `run(port, transactions)` was served.
    `start(prefix)` starts it: its command is to begin with `prefix`."""
    out = folder / "callgrind.out"
    out.unlink(missing_ok=True)
    with start(["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"]) as port:
        run(port, transactions)
    harness.wait_for(lambda: out.exists() and "totals:" in out.read_text(), "callgrind's figures")
    return read(out)


def per_transaction(start, run, folder, numbers):
    """Instructions for one transaction, by module: what the larger of the two `numbers` of them costs more
    than the smaller, so that nothing of starting, logging in and ending counts."""
    fewer, more = numbers
    counts = counted(start, run, folder, more)
    counts.subtract(counted(start, run, folder, fewer))
    return {name: count / (more - fewer) for name, count in counts.items()}
