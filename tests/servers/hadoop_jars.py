"""Hadoop's jars, out of the source distribution of pyspark, the one package that carries them."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

_SOURCE = "pyspark==2.4.8"
_NEEDED = (
    "commons-cli-", "commons-codec-", "commons-collections-", "commons-configuration-",
    "commons-io-", "commons-lang-", "commons-logging-", "guava-", "hadoop-auth-",
    "hadoop-common-", "hadoop-hdfs-", "htrace-core-", "jackson-core-asl-",
    "jackson-mapper-asl-", "javax.servlet-api-", "javax.ws.rs-api-", "jetty-6", "jetty-util-",
    "leveldbjni-all-", "log4j-1", "netty-3", "netty-all-", "protobuf-java-", "slf4j-api-",
    "slf4j-log4j12-", "xercesImpl-", "xmlenc-",
)  # fmt: skip
# Read when this module is imported: tests give their processes another HOME.
FOLDER = (
    Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    / "raymlops-tests"
    / "hadoop-2.7.3"
)


def main() -> None:
    """Fills the folder, unless it is there: it appears when it is complete."""
    if FOLDER.is_dir():
        return
    FOLDER.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER.parent) as name:
        download = [
            sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=pyspark",
            f"--dest={name}", _SOURCE,
        ]  # fmt: skip
        subprocess.run(download, check=True)
        jars = Path(name, "jars")
        jars.mkdir()
        (archive,) = Path(name).glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            for member in tar:
                path = Path(member.name)
                if path.suffix == ".jar" and path.name.startswith(_NEEDED):
                    member.name = path.name
                    tar.extract(member, jars, filter="data")
        jars.chmod(0o755)
        jars.rename(FOLDER)


if __name__ == "__main__":
    main()
