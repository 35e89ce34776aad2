"""How many calls of tools are the expected ones: name and arguments, compared as JSON.

    python3 calls_right.py RUN/validation_predictions.csv

The column `answer` has the expected call, `prediction` the text that the model wrote, with its calls between <tool_call> and
</tool_call>.
"""

import collections
import csv
import json
import re
import sys


def calls(text):
    """The calls in an answer; `None` stands for one that is no JSON."""
    found = []
    for body in re.findall(r"<tool_call>(.*?)</tool_call>", text, re.DOTALL):
        try:
            call = json.loads(body)
            found.append({"name": call["name"], "arguments": call["arguments"]})
        except (ValueError, KeyError, TypeError):
            found.append(None)
    return found


def main(path):
    counts = collections.Counter()
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            expected, found = json.loads(row["answer"]), calls(row["prediction"])
            counts["rows"] += 1
            counts["one call that is JSON"] += len(found) == 1 and found[0] is not None
            counts["right name"] += len(found) == 1 and bool(found[0]) and found[0]["name"] == expected["name"]
            counts["right call"] += found == [expected]
            counts[f"right call of {expected['name']}"] += found == [expected]
            counts[f"rows of {expected['name']}"] += 1
    print(json.dumps(counts, sort_keys=True))


if __name__ == "__main__":
    main(sys.argv[1])
