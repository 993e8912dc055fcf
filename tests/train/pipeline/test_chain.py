from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import dropout

from raymlops.errors import TrainingError
from raymlops.train.pipeline import find_chain, measure_costs
from raymlops.train.tabular.network import Perceptron
from tests.train.pipeline.models import Transformer, digits, perceptron, text, transformer


class Three(nn.Module):
    """Three linear blocks, put together by each test."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


def names(model: nn.Module) -> list[str]:
    return [block.name for block in find_chain(model).blocks]


def test_a_sequential_is_a_chain_of_its_layers_however_nested() -> None:
    nested = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 2)), nn.Tanh())
    assert names(nested) == ["0", "1.0", "1.1", "2"]


def test_a_forward_over_a_list_of_blocks_is_a_chain() -> None:
    assert names(transformer()) == [
        "embedding", "blocks.0", "blocks.1", "blocks.2", "blocks.3", "blocks.4", "blocks.5",
        "norm", "head",
    ]  # fmt: skip


@pytest.mark.parametrize("task", [digits(20), text(20)], ids=["digits", "text"])
def test_parts_in_a_row_are_the_model(task) -> None:  # type: ignore[no-untyped-def]
    model = task.make()
    chain = find_chain(model)
    value = task.rows
    found: list[str] = []
    for index in range(len(chain.blocks)):
        part = chain.part(index, index + 1)
        found += part.state_dict()
        value = part(value)
    assert torch.equal(value, model(task.rows))
    assert sorted(found) == sorted(model.state_dict())


def test_parts_share_the_models_parameters() -> None:
    model = transformer()
    part = find_chain(model).part(1, 3)
    assert part.get_parameter("blocks.1.out.weight") is model.get_parameter("blocks.1.out.weight")


def test_work_between_modules_stays_where_it_was() -> None:
    model = Perceptron(4, (8,), 0.0).eval()
    rows = torch.arange(8.0).view(2, 4)
    assert find_chain(model).part(1, 4)(model.layers[0](rows)).tolist() == model(rows).tolist()


def test_blocks_are_not_cut_where_two_values_pass() -> None:
    class Skips(Three):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.a(x)
            return self.c(self.b(y) + x)

    assert names(Skips()) == ["a", "c"]


def test_optional_arguments_are_left_at_their_defaults() -> None:
    class Masked(Three):
        def forward(
            self, x: torch.Tensor, mask: torch.Tensor | None = None, times: int = 2
        ) -> torch.Tensor:
            x = self.a(x)
            if mask is not None:
                x = x * mask
            return self.c(self.b(x * times))

    model = Masked()
    rows = torch.ones(3, 2)
    assert torch.equal(find_chain(model).part(0, 3)(rows), model(rows))


def test_a_shared_parameter_keeps_its_blocks_together() -> None:
    class Tied(Three):
        def __init__(self) -> None:
            super().__init__()
            self.b.weight = self.a.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.c(self.b(torch.tanh(self.a(x))))

    assert names(Tied()) == ["a", "c"]
    model = Transformer()
    model.head.weight = model.embedding.weight
    assert names(model) == ["embedding"]


def test_a_module_called_twice_stays_in_one_block() -> None:
    class Again(Three):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.c(self.a(self.b(self.a(x))))

    assert names(Again()) == ["a", "c"]


def test_a_module_of_several_names_keeps_them_all() -> None:
    """What a pipeline had trained lacked names, and could not be loaded into the model."""

    class Layers(Three):
        def __init__(self) -> None:
            super().__init__()
            norm = nn.BatchNorm1d(2).eval()
            self.layers = nn.ModuleList([nn.Sequential(self.b, norm), self.b, norm])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.a(x)
            for layer in self.layers:
                x = layer(x)
            return self.c(x)

    model = Layers()
    assert names(model) == ["a", "b", "c"]
    found = [*find_chain(model).part(0, 1).state_dict(), *find_chain(model).part(1, 3).state_dict()]
    assert sorted(found) == sorted(model.state_dict())
    assert len(list(find_chain(model).part(1, 2).parameters())) == 4


def test_buffers_that_are_not_saved_stay_so() -> None:
    class Shifted(Three):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("shift", torch.ones(2), persistent=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.c(self.b(self.a(x) + self.shift))

    assert list(find_chain(Shifted()).part(0, 1).state_dict()) == ["a.weight", "a.bias"]


def test_tensors_that_a_forward_makes_are_those_of_every_pass() -> None:
    class Placed(Three):
        def __init__(self) -> None:
            super().__init__()
            self.places = nn.Embedding(2, 2)
            self.scale = torch.full((2,), 3.0)  # which the model's state does not have either

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.a(x) * self.scale + self.places(torch.arange(2))
            return self.c(self.b(x) * torch.ones(2).cumsum(0))

    model, rows = Placed(), torch.ones(2, 2)
    find_chain(model)
    chain = find_chain(model)  # as for costs and then for stages
    parts = [chain.part(0, 2), chain.part(2, len(chain.blocks))]
    assert torch.equal(parts[1](parts[0](rows)), model(rows))
    held = [name for part in parts for name in part.state_dict()]
    assert sorted(held) == sorted(model.state_dict())


def test_buffers_that_no_block_reads_are_held_by_the_first_part() -> None:
    class Holds(Three):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("unread", torch.arange(3))
            self.register_buffer("unsaved", torch.ones(2), persistent=False)
            self.register_buffer("read", torch.ones(2))
            self.aside = nn.BatchNorm1d(2, affine=False)
            self.norm = nn.BatchNorm1d(2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.c(self.norm(self.b(self.a(x))) * self.read)

    model = Holds()
    chain = find_chain(model)
    parts = [chain.part(0, 2), chain.part(2, 4)]
    found = [name for part in parts for name in part.state_dict()]
    assert sorted(found) == sorted(model.state_dict())  # some were in no part, nor saved
    assert parts[0].get_buffer("unread") is model.get_buffer("unread")
    rows = torch.ones(3, 2)
    assert torch.equal(parts[1](parts[0](rows)), model(rows))


def test_a_model_may_name_its_chain() -> None:
    class Named(Three):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.c(self.b(self.a(x))) if x.shape[0] else x

        def pipeline_blocks(self) -> list[str]:
            return ["a", "b", "c"]

    model = Named()
    assert names(model) == ["a", "b", "c"]
    rows = torch.ones(3, 2)
    assert torch.equal(find_chain(model).part(1, 3)(model.a(rows)), model(rows))


class Branches(Three):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c(self.b(self.a(x))) if x.sum() > 0 else x


class Moody(Three):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c(self.b(dropout(self.a(x), 0.1, self.training)))


class Draws(Three):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c(self.b(self.a(x) + torch.randn(2)))


class Forgets(Three):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.a(x))


class Several(Three):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.a(x)
        return {"b": self.b(x), "c": self.c(x)}


class Counts(Three):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("n", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.n += 1
        return self.c(self.b(self.a(x)))


class CountsAnew(Counts):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.n = self.n + 1
        return self.c(self.b(self.a(x)))


class Remembers(Three):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not hasattr(self, "width"):
            self.register_buffer("width", torch.ones(x.shape[-1]))
        return self.c(self.b(self.a(x * self.width)))


class Misnamed(Forgets):
    def pipeline_blocks(self) -> list[str]:
        return ["a", "z"]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Branches, r"forward of Branches cannot be followed .*control flow.*pipeline_blocks\(\)"),
        (Moody, "forward of Moody itself differs between training and evaluation; use a module"),
        (
            Draws,
            "Draws itself makes a tensor that is another each time, such as random numbers, an",
        ),
        (Forgets, r"does not use c\.bias, c\.weight: no stage would hold or train them"),
        (
            Several,
            "forward of Several returns not one tensor but what holds several, and the last stage",
        ),
        (Counts, "forward of Counts itself changes n, which no stage would do: change it in a mod"),
        (CountsAnew, "forward of CountsAnew itself changes n, which no stage would do"),
        (Remembers, "forward of Remembers itself changes width, which no stage would do"),
        (Misnamed, r"names 'z', which is no module of it; it has a, b, c"),
    ],
)
def test_a_model_without_a_chain_is_refused_with_the_way_out(
    model: type[Three], message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        find_chain(model())


def test_a_buffer_that_a_forward_changes_is_put_back() -> None:
    for model in (Counts(), CountsAnew()):
        with pytest.raises(TrainingError):
            find_chain(model)
        assert float(model.n) == 0.0


def test_finding_a_chain_leaves_modes_alone() -> None:
    model = transformer().train()
    model.blocks[2].eval()
    find_chain(model)
    assert [block.training for block in model.blocks] == [True, True, False, True, True, True]


def test_costs_are_bytes_and_seconds_of_each_block() -> None:
    model = nn.Sequential(nn.Linear(64, 8), nn.Linear(8, 512), nn.Linear(512, 2048))
    costs = measure_costs(find_chain(model), torch.ones(256, 64))
    assert [cost.name for cost in costs] == ["0", "1", "2"]
    assert [cost.parameter_bytes for cost in costs] == [2080, 18432, 4202496]
    # 268 million multiplications against 131 thousand.
    assert costs[2].forward_s > costs[0].forward_s > 0


def test_measuring_leaves_the_model_and_random_numbers_alone() -> None:
    model = nn.Sequential(nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))
    before = copy.deepcopy(model.state_dict())
    torch.manual_seed(3)
    expected = torch.rand(4).tolist()
    torch.manual_seed(3)
    measure_costs(find_chain(model), digits(30).rows)
    assert torch.rand(4).tolist() == expected
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    assert perceptron().training
