"""Runs a project's commands in one process, as dbt's own command line does; prints how each node ended, as
JSON."""

import json
import sys

from dbt.cli.main import dbtRunner

results = []
# First what only writes: a test would read encrypted data, and be healed, in front of the first write.
BUILD = ["build", "--exclude-resource-type", "test"]
for command in (BUILD, ["build"], ["docs", "generate"]):
    done = dbtRunner().invoke([*command, "--threads", sys.argv[1], "--no-use-colors"])
    nodes = getattr(done.result, "results", None) or []
    ended = [
        (node.node.name, str(node.status), node.adapter_response.get("code"), node.message)
        for node in nodes
        if hasattr(node, "adapter_response")
    ]
    results.append([command, done.success, sorted(map(list, ended), key=str)])
print("RESULTS " + json.dumps(results))
