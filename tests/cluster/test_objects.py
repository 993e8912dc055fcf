from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

# Of its disk this Ray takes 1 %, where others take 95.
_WITHOUT_ROOM = """
import os, sys
os.environ["RAY_local_fs_capacity_threshold"] = "0.01"
import numpy as np
from pathlib import Path
from raymlops.cluster import ClusterSettings, connect
from raymlops.cluster.objects import share
from raymlops.errors import ClusterError
sized = ClusterSettings(num_cpus=1, object_store_bytes=80_000_000)
with connect(sized, home=Path(sys.argv[1])):
    first = share(np.zeros(60_000_000, np.uint8), what="zeros")
    try:
        share(np.ones(60_000_000, np.uint8), what="ones with the workers")
    except ClusterError as error:
        print(error)
"""


@pytest.mark.cluster
def test_what_finds_no_room_is_told_with_how_much_there_is(tmp_path: Path) -> None:
    """A training ended in a traceback of Ray's, which named neither."""
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_ROOM, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.fullmatch(
        r"there is no room to share ones with the workers: Ray's objects have 76 MiB of this "
        r"node's memory, and of the disk of /\S+, where it puts what is beyond, \d+% is taken, of "
        r"which Ray takes 95 % at most: free some, or give it more memory by "
        r"cluster\.object_store_bytes\n",
        done.stdout,
    )
