"""What stands behind the doors of other nodes, as far as this one knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from raymlops.serve.routing import ReplicaLoad, RoutingName


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """A model's replicas behind the door of another node, and their connections.

    Of how they are routed, and of each, doors of earlier versions say nothing.
    """

    replicas: int
    connections: int
    routing: RoutingName | None = None
    loads: tuple[ReplicaLoad, ...] = ()

    def more(self, arriving: int = 1) -> Crowd:
        """With connections that are on their way there."""
        return replace(self, connections=self.connections + arriving)

    @property
    def even_loads(self) -> list[ReplicaLoad]:
        """As if all had equal parts, since nobody knows yet which of them got what was sent."""
        return [replace(each, in_flight=self.connections // self.replicas) for each in self.loads]


class Crowds:
    """Those of all other nodes, by the last that their doors said and what was sent there since."""

    def __init__(self) -> None:
        self._of: dict[str, dict[str, Crowd]] = {}
        self._relayed: dict[str, frozenset[str]] = {}
        self._sent: dict[str, Counter[str]] = {}
        self._num_asked: Counter[str] = Counter()
        self._newest: dict[str, int] = {}

    @property
    def models(self) -> frozenset[str]:
        """Those that are deployed on other nodes, with and without a replica."""
        return frozenset[str]().union(*self._of.values())

    @property
    def num_asked(self) -> Counter[str]:
        """By node, how often its door was asked for news until now."""
        return self._num_asked.copy()

    def ask(self, node: str) -> None:
        """Its door is asked for news, which may know nothing of what is sent there from now on."""
        self._sent[node] = Counter()
        self._num_asked[node] += 1

    def meet(self, node: str, crowds: Mapping[str, Crowd], relayed: Iterable[str] = ()) -> None:
        """What the door of another node says of itself, and of which models it sends connections
        here."""
        sent = self._sent.get(node, Counter())
        self._of[node] = {model: crowd.more(sent[model]) for model, crowd in crowds.items()}
        self._relayed[node] = frozenset(relayed)
        self._newest[node] = self._num_asked[node]

    def send(self, model: str, node: str) -> None:
        """A connection was sent to that node."""
        self._of[node][model] = self._of[node][model].more()
        self._sent.setdefault(node, Counter())[model] += 1

    def receive(self, model: str, node: str) -> None:
        """The door of another node has sent a connection here."""
        self._relayed[node] = self._relayed.get(node, frozenset()) | {model}

    def exhaust(self, model: str, node: str) -> None:
        """The replicas of another node have gone, and its door will say when there are others."""
        self._of[node][model] = Crowd(replicas=0, connections=0)

    def part(self, node: str) -> None:
        """The door of a node has gone; clients wait for what was there, until it is elsewhere."""
        for model in self._of.get(node, {}):
            self.exhaust(model, node)
        self._relayed.pop(node, None)

    def forget(self, model: str) -> None:
        """The model is deployed no more."""
        for crowds in self._of.values():
            crowds.pop(model, None)

    def reach(self, model: str) -> dict[str, Crowd]:
        """By node, what other doors have of the model that could take a connection."""
        return {
            node: crowd
            for node, crowds in self._of.items()
            if (crowd := crowds.get(model)) is not None and crowd.replicas > 0
        }

    def elsewhere(self, model: str) -> dict[str, Crowd]:
        """The same of nodes that send none here: what came from a node does not go back to it."""
        return {
            node: crowd
            for node, crowd in self.reach(model).items()
            if model not in self._relayed.get(node, ())
        }

    def know_more(self, nodes: Collection[str], num_asked: Mapping[str, int]) -> bool:
        """Whether the newest of all these nodes was asked for after `num_asked` was read."""
        return all(self._newest[node] > num_asked[node] for node in nodes)
