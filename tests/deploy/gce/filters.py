"""Which names gcloud's filters find, by gcloud's own code: as Compute Engine is asked, and as gcloud itself sorts out.

filters.py SDK_LIB < [{"filter": ..., "compute": ..., "names": [...]}, ...] > [[name, ...], ...]
"""

import json
import re
import sys

sys.path[:0] = [sys.argv[1], sys.argv[1] + "/third_party"]
from googlecloudsdk.api_lib.compute import filter_rewrite  # noqa: E402
from googlecloudsdk.core.resource import resource_filter  # noqa: E402


def found(question):
    here, there = question["filter"], None
    if question["compute"]:
        here, there = filter_rewrite.Rewriter().Rewrite(question["filter"])
    names = question["names"]
    if there:
        # The whole value has to match.
        pattern = re.fullmatch(r'name eq "(.*)"', there).group(1)
        names = [name for name in names if re.fullmatch(pattern, name)]
    if here:
        names = [name for name in names if resource_filter.Compile(here).Evaluate({"name": name, "email": name})]
    return names


print(json.dumps([found(question) for question in json.load(sys.stdin)]))
