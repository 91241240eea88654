"""A server of the S3 protocol on this machine."""

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
    return port


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """Serves an empty bucket named `bucket`.

    Yields:
        What a URI needs to find it, from the question mark on; `CREDENTIALS` have to be in the environment.
    """
    from pyarrow import fs  # type: ignore[import-untyped]

    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "moto.server", "-p", str(port)], stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                assert process.poll() is None
                time.sleep(0.1)
        endpoint = f"127.0.0.1:{port}"
        system = fs.S3FileSystem(
            endpoint_override=endpoint,
            scheme="http",
            region="us-east-1",
            access_key="testing",
            secret_key="testing",
            allow_bucket_creation=True,
        )
        system.create_dir("bucket")
        yield f"?endpoint_override={endpoint}&scheme=http&region=us-east-1"
    finally:
        process.kill()
        process.wait()
