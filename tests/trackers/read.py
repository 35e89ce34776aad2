"""What real trackers have of a run, as JSON: {"params": {...}, "status": ..., "series": {name: [[step, value], ...]}, "n_runs": ...}.

    read.py mlflow ADDRESS EXPERIMENT
    read.py tensorboard FOLDER
    read.py wandb FILE

Run by the tests of trackers with the Python that scripts/tracker-servers installs; each reads with the tracker's own package.
"""

import json
import sys


def mlflow(address, experiment):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=address)
    found = client.get_experiment_by_name(experiment)
    runs = client.search_runs([found.experiment_id])
    run = runs[0]
    series = {
        name: [[point.step, point.value] for point in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }
    return {
        "n_runs": len(runs),
        "name": run.info.run_name,
        "status": run.info.status,
        "params": run.data.params,
        "series": {name: sorted(points) for name, points in series.items()},
    }


def tensorboard(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    # 0: keep all.
    events = EventAccumulator(folder, size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    tags = events.Tags()
    texts = [event.tensor_proto.string_val[0].decode() for tag in tags["tensors"] for event in events.Tensors(tag)]
    series = {tag: [[event.step, event.value] for event in events.Scalars(tag)] for tag in tags["scalars"]}
    return {"n_runs": 1, "params": {"text": texts[0]}, "series": series, "plugins": events.PluginTagToContent("text")}


def wandb(path):
    from wandb.proto.wandb_internal_pb2 import Record
    from wandb.sdk.internal.datastore import DataStore

    store = DataStore()
    store.open_for_scan(path)
    answer = {"n_runs": 0, "params": {}, "series": {}, "n_records": 0, "numbers": []}
    while (data := store.scan_data()) is not None:
        record = Record()
        record.ParseFromString(data)
        answer["n_records"] += 1
        answer["numbers"].append(record.num)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            answer["n_runs"] += 1
            answer["name"] = record.run.display_name
            answer["project"] = record.run.project
            answer["run_id"] = record.run.run_id
            for item in record.run.config.update:
                answer["params"][item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
        elif kind == "history":
            row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            assert row["_step"] == record.history.step.num, row
            for name, value in row.items():
                if not name.startswith("_"):
                    answer["series"].setdefault(name, []).append([row["_step"], value])
        elif kind == "exit":
            answer["status"] = record.exit.exit_code
    return answer


if __name__ == "__main__":
    read = {"mlflow": mlflow, "tensorboard": tensorboard, "wandb": wandb}[sys.argv[1]]
    json.dump(read(*sys.argv[2:]), sys.stdout, default=lambda value: value.decode() if isinstance(value, bytes) else str(value))
