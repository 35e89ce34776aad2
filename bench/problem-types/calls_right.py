"""How many calls of tools are the expected ones: name and arguments, compared as JSON.

    python3 calls_right.py RUN/validation_predictions.csv
    python3 calls_right.py CSV_OF_TUNESMITH_PREDICT

The expected call is in the column `answer`, or ends the column `messages`; `prediction` has the text that the model wrote, with its
calls between <tool_call> and </tool_call>.
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


def expected_call(row):
    if "answer" in row:
        return json.loads(row["answer"])
    function = json.loads(row["messages"])[-1]["tool_calls"][0]["function"]
    arguments = function["arguments"]
    return {"name": function["name"], "arguments": json.loads(arguments) if isinstance(arguments, str) else arguments}


def main(path):
    counts = collections.Counter()
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            expected, found = expected_call(row), calls(row["prediction"])
            counts["rows"] += 1
            counts["one call that is JSON"] += len(found) == 1 and found[0] is not None
            counts["right name"] += len(found) == 1 and bool(found[0]) and found[0]["name"] == expected["name"]
            counts["right call"] += found == [expected]
            counts[f"right call of {expected['name']}"] += found == [expected]
            counts[f"rows of {expected['name']}"] += 1
    print(json.dumps(counts, sort_keys=True))


if __name__ == "__main__":
    main(sys.argv[1])
