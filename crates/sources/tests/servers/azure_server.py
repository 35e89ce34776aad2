"""A server that speaks the protocol of Azure Blob Storage and checks signatures (Azurite), with blobs in it.

Takes the folder of files and the command that starts Azurite. Prints one line of JSON when it is ready, and ends when its
standard input does.
"""

import datetime
import json
import socket
import subprocess
import sys
import time

from azure.storage.blob import BlobServiceClient, ContainerSasPermissions, PublicAccess, generate_container_sas

# The account that every Azurite has; its key is in Microsoft's documentation.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(port):
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.1)
    sys.exit("the server does not answer")


def main():
    folder, azurite = sys.argv[1:3]
    port = free_port()
    options = ["--blobPort", str(port), "--inMemoryPersistence", "--silent", "--skipApiVersionCheck", "--disableTelemetry"]
    server = subprocess.Popen([azurite, *options], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        wait_for(port)
        endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
        connection = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={endpoint};"
        service = BlobServiceClient.from_connection_string(connection)
        for name, access in (("private", None), ("public", PublicAccess.CONTAINER)):
            container = service.create_container(name, public_access=access)
            for key, file in (("a/rows.csv", "rows.csv"), ("a/big.jsonl", "big.jsonl"), ("root.csv", "rows.csv"),
                              ("two/one more ü.csv", "rows.csv"), ("two/second.csv", "rows.csv")):
                with open(f"{folder}/{file}", "rb") as data:
                    container.upload_blob(key, data)
        until = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
        sas = generate_container_sas(ACCOUNT, "private", account_key=KEY, expiry=until,
                                     permission=ContainerSasPermissions(read=True, list=True))
        print(json.dumps({"endpoint": endpoint, "account": ACCOUNT, "key": KEY, "connection": connection, "sas": sas}),
              flush=True)
        sys.stdin.read()
    finally:
        server.terminate()


main()
