"""Makes the table files of this folder and, with pandas, the texts their cells become (texts.json).

Written with pandas 3.1.1 and pyarrow 26.0.1; run in this folder: python make.py
"""

import datetime
import decimal
import json

import pandas as pd
import pyarrow as pa
from pyarrow import feather, ipc
import pyarrow.parquet as pq

CSVS = {
    "types.csv": (
        "int,gappy_int,float,bool,gappy_bool,mixed,space_int,sign,big,hexa,inf,date\n"
        "1,1,0.5,True,true,1, 7,+3,9223372036854775807,0x10,inf,2024-01-01\n"
        "2,,1e5,false,,x,8 ,-4,1,0x11,-inf,2024-01-02\n"
        "007,3,1e-7,FALSE,FALSE,1.50,9,0,2,0x12,1,2024-01-03\n"
    ),
    "missing.csv": (
        'text,kept\n'
        + "".join(f'"{word}",{kept}\n' for word, kept in zip(
            ["", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>",
             "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"],
            ["none", "-", "NONE", "Null", " NA", "NA ", "na", "n.a.", "nil", "''", "N\\A", "Nan", "missing", "?", "x",
             "y", "z", "nul", "NAN"]))
    ),
    "quoted.csv": (
        'a,"b ""q"" b","multi\nline"\n'
        '"one, two","say ""hi""","first\nsecond"\n'
        '\n'
        'plain,mid"quote,x\n'
        '"",," "\n'
        'short\n'
    ),
    "names.csv": "a,a,,b,a\n1,2,3,4,5\n",
}


def texts(frame):
    # The rule for prompt and answer columns: missing is empty, all else is cast to text.
    columns = {}
    for column in frame.columns:
        series, missing = frame[column], frame[column].isna()
        if missing.any():
            series = series.astype(object)
        columns[column] = ["" if gap else text for text, gap in zip(series.astype(str), missing)]
    return {"columns": list(columns), "rows": [list(row) for row in zip(*columns.values())]}


def main():
    expected = {}
    for name, text in CSVS.items():
        with open(name, "w", newline="") as file:
            file.write(text)
        expected[name] = texts(pd.read_csv(name, lineterminator="\n"))

    table = pa.table({
        "text": pa.array(["hello", None, "ünï😀"]),
        "int": pa.array([1, 2, 3], pa.int64()),
        "gappy_int": pa.array([1, None, 3], pa.int64()),
        "int8": pa.array([-1, 0, 1], pa.int8()),
        "uint32": pa.array([4294967295, 0, 1], pa.uint32()),
        "float32": pa.array([0.1, 1e-7, 3.0], pa.float32()),
        "float64": pa.array([0.1, None, 1e20], pa.float64()),
        "float16": pa.array([0.5, 1.5, 2.0], pa.float16()),
        "bool": pa.array([True, False, None]),
        "dictionary": pa.array(["a", "b", "a"]).dictionary_encode(),
        "large": pa.array(["x", "y", "z"], pa.large_string()),
        "binary": pa.array([b"abc", b"def", b"ghi"]),
        "decimal": pa.array([decimal.Decimal("1.50"), decimal.Decimal("-0.05"), None], pa.decimal128(9, 2)),
        "date": pa.array([datetime.date(2024, 2, 29), None, datetime.date(1969, 12, 31)]),
        "stamp_ms": pa.array([0, 1709211907123, None], pa.timestamp("ms")),
        "stamp_us": pa.array([0, 1709211907000001, None], pa.timestamp("us")),
        "stamp_ns": pa.array([1709211907000001000, 0, None], pa.timestamp("ns")),
    })
    for codec in ["snappy", "zstd", "gzip", "lz4", "none"]:
        pq.write_table(table, f"types.{codec}.parquet", compression=codec, row_group_size=2)
    frame = texts(pq.read_table("types.snappy.parquet").to_pandas())
    # Cells this program spells in its own way: dates and times, bytes that are text.
    own = {
        "binary": ["abc", "def", "ghi"],
        "date": ["2024-02-29", "", "1969-12-31"],
        "stamp_ms": ["1970-01-01 00:00:00", "2024-02-29 13:05:07.123000", ""],
        "stamp_us": ["1970-01-01 00:00:00", "2024-02-29 13:05:07.000001", ""],
        "stamp_ns": ["2024-02-29 13:05:07.000001", "1970-01-01 00:00:00", ""],
    }
    for column, values in own.items():
        position = frame["columns"].index(column)
        for row, value in zip(frame["rows"], values):
            row[position] = value
    expected["types.parquet"] = frame

    nested = pa.table({
        "messages": pa.array([
            [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}],
            [],
            None,
        ], pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        "scores": pa.array([{"a": 1.5, "b": None}, {"a": 2.0, "b": "x"}, None],
                           pa.struct([("a", pa.float64()), ("b", pa.string())])),
        "tags": pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int64())),
    })
    pq.write_table(nested, "nested.parquet")

    # Arrow: what Feather writes, and the stream that the datasets library keeps in its cache.
    for codec in ["zstd", "lz4", "uncompressed"]:
        feather.write_feather(table, f"types.{codec}.arrow", compression=codec, chunksize=2)
    with ipc.new_stream("types.stream.arrow", table.schema) as out:
        for batch in table.to_batches(max_chunksize=2):
            out.write_batch(batch)

    # One column of every kind that data sets of the hub have; two of them hold images.
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    png = b"\x89PNG\r\n\x1a\n\xff"
    stamp = datetime.datetime(2024, 2, 29, 13, 5, 7, 1)
    kinds = pa.table({
        "messages": pa.array([messages, []], pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        "image": pa.array([{"bytes": png, "path": "a.png"}, None],
                          pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        "blob": pa.array([b"text", png], pa.binary()),
        "tags": pa.array([["a", "b"], None], pa.list_(pa.dictionary(pa.int32(), pa.string()))),
        "matrix": pa.array([[[1, 2], []], [[3]]], pa.list_(pa.list_(pa.int64()))),
        "pair": pa.array([[0.5, 0.25], [1.0, 2.0]], pa.list_(pa.float32(), 2)),
        "hash": pa.array([b"abcd", b"efgh"], pa.binary(4)),
        "uint64": pa.array([18446744073709551615, 9223372036854775808], pa.uint64()),
        "wide": pa.array([decimal.Decimal("123.45"), decimal.Decimal("-0.01")], pa.decimal256(50, 2)),
        "clock": pa.array([datetime.time(13, 5, 7, 1), None], pa.time64("ns")),
        "stamps": pa.array([[stamp], []], pa.list_(pa.timestamp("ns"))),
        "zoned": pa.array([stamp, None], pa.timestamp("us", tz="UTC")),
        "nothing": pa.nulls(2),
        "nested": pa.array([{"a": {"b": [1]}}, {"a": None}],
                           pa.struct([("a", pa.struct([("b", pa.list_(pa.int8()))]))])),
        "map": pa.array([[("k", ["v"])], []], pa.map_(pa.string(), pa.list_(pa.string()))),
    })
    pq.write_table(kinds, "kinds.parquet", compression="zstd")
    pq.write_table(kinds.select(["zoned"]), "int96.parquet", use_deprecated_int96_timestamps=True)
    with ipc.new_file("kinds.arrow", kinds.schema) as out:
        out.write_table(kinds)

    with open("texts.json", "w") as file:
        json.dump(expected, file, indent=1, ensure_ascii=False)
        file.write("\n")


if __name__ == "__main__":
    main()
