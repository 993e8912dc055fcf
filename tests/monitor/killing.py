"""A monitor that is fed in a process which is killed again and again, and started anew.

Run as a script it is the parent of these processes: each is a fork, so that it starts in
milliseconds. A feeder takes up its work where the last call was acknowledged, as a replica does.
Its calls carry one to three messages, and one that is repeated rarely ends where it did before.
"""

from __future__ import annotations

import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence

from raymlops.ledger import JoinPolicy, Labels
from raymlops.monitor import ConceptPolicy, DriftMonitor, DriftPolicy, WindowPolicy
from raymlops.serve.tap import TapSummary

# It alarms at once and often, so that alarms are among what could be lost or doubled.
KILLED = ConceptPolicy(num_learned=5, parameters={"labels_per_false_alarm": 3})

Work = list[list[TapSummary | list[Labels]]]


def feed_and_kill(
    url: str,
    store_uri: str,
    messages: Mapping[str, Sequence[TapSummary]],
    labels: Sequence[Sequence[Labels]],
    *,
    num_kills: int,
) -> int:
    """Sends everything until it is acknowledged; returns how often the monitor was killed."""
    work: Work = [*(list(sent) for sent in messages.values()), [list(each) for each in labels]]
    done = subprocess.run(
        [sys.executable, "-m", "tests.monitor.killing", url, store_uri, str(num_kills)],
        input=pickle.dumps(work),
        stdout=subprocess.PIPE,
        check=True,
        timeout=280,
    )
    return int(done.stdout)


def main() -> None:
    url, store_uri, num_kills = sys.argv[1], sys.argv[2], int(sys.argv[3])
    work: Work = pickle.load(sys.stdin.buffer)
    positions = [0] * len(work)
    chance = random.Random(0)
    killed = 0
    while any(position < len(each) for position, each in zip(positions, work, strict=True)):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            _feed(url, store_uri, work, positions, killed, writer)
        os.close(writer)
        if killed < num_kills:
            for number in os.read(reader, chance.randint(1, 6)):
                positions[number] += 1
            time.sleep(chance.uniform(0.0, 0.004))
            os.kill(pid, signal.SIGKILL)
            killed += 1
        while acknowledged := os.read(reader, 4096):
            for number in acknowledged:
                positions[number] += 1
        os.close(reader)
        os.waitpid(pid, 0)
    sys.stdout.write(str(killed))


def _feed(
    url: str,
    store_uri: str,
    work: Work,
    positions: Sequence[int],
    life: int,
    acknowledgements: int,
) -> None:
    """One thread for each feeder, as the threads of an actor; never returns."""
    # Feeders are months apart, and no label is to be given up because another month was quicker.
    joins = JoinPolicy(max_age_days=365)
    monitor = DriftMonitor(url, store_uri, WindowPolicy(), DriftPolicy(), KILLED, joins)

    def feed(number: int) -> None:
        position = positions[number]
        while rest := work[number][position:]:
            if isinstance(rest[0], TapSummary):
                carried = rest[: 1 + (position + life) % 3]
                monitor.observe(*carried)
            else:
                carried = rest[:1]
                monitor.label(*carried)
                monitor.watch("flights")
            position += len(carried)
            os.write(acknowledgements, bytes([number] * len(carried)))

    threads = [threading.Thread(target=feed, args=(number,)) for number in range(len(work))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    monitor.watch("flights")  # predictions that came after their labels
    os._exit(0)


if __name__ == "__main__":
    main()
