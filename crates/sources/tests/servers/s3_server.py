"""A server that speaks the protocol of S3 and checks signatures (moto), with objects in it.

Prints one line of JSON when it is ready, and ends when its standard input does.
"""

import json
import logging
import os
import sys

# Listings come in pages of three.
os.environ["MOTO_S3_DEFAULT_MAX_KEYS"] = "3"
logging.getLogger("werkzeug").setLevel(logging.ERROR)

import boto3
from moto import settings
from moto.core.authorization import ActionAuthenticatorMixin
from moto.server import ThreadedMotoServer

# moto refuses whatever is not signed; Amazon goes by the lists of who may read an object, as moto does without this check.
check_signed = ActionAuthenticatorMixin._authenticate_and_authorize_action
MAY_READ = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}


def check(request, *args, **kwargs):
    if "Authorization" in request.headers:
        check_signed(request, *args, **kwargs)


def client(endpoint, kind):
    return boto3.client(kind, endpoint_url=endpoint, region_name="us-east-1",
                        aws_access_key_id="nobody", aws_secret_access_key="nothing")


def main():
    folder = sys.argv[1]
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    iam, s3 = client(endpoint, "iam"), client(endpoint, "s3")
    keys = {}
    for name in ("reader", "stranger"):
        iam.create_user(UserName=name)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        keys[name] = {"id": key["AccessKeyId"], "secret": key["SecretAccessKey"]}
    iam.put_user_policy(UserName="reader", PolicyName="read", PolicyDocument=json.dumps(MAY_READ))
    for bucket, access in (("private", "private"), ("public", "public-read")):
        s3.create_bucket(Bucket=bucket, ACL=access)
        access = {"ACL": access}
        for name in ("rows.csv", "big.jsonl", "tables.zip"):
            s3.upload_file(f"{folder}/{name}", bucket, f"a/{name}", ExtraArgs=access)
        s3.upload_file(f"{folder}/rows.csv", bucket, "root.csv", ExtraArgs=access)
        s3.upload_file(f"{folder}/rows.csv", bucket, "two/one more ü.csv", ExtraArgs=access)
        s3.upload_file(f"{folder}/rows.csv", bucket, "two/second.csv", ExtraArgs=access)
        s3.put_object(Bucket=bucket, Key="two/notes.pdf", Body=b"no table")
    for idx in range(10):
        s3.put_object(Bucket="private", Key=f"many/{idx}.csv", Body=f"question,answer\nwhat,{idx}\n".encode())
    # From here on, only requests of those who may.
    ActionAuthenticatorMixin._authenticate_and_authorize_action = check
    settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
    print(json.dumps({"endpoint": endpoint, **keys}), flush=True)
    sys.stdin.read()
    server.stop()


main()
