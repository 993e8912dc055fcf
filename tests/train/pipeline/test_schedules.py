from __future__ import annotations

import pytest

from raymlops.train.pipeline import SCHEDULES, Kind, PipelineLayout, work_order


def layout(schedule: str, *, ranks: int = 4, microbatches: int = 8, stages: int) -> PipelineLayout:
    return PipelineLayout(
        schedule=schedule, num_ranks=ranks, num_microbatches=microbatches, stages_per_rank=stages
    )


def test_loops_deal_stages_out_in_turn() -> None:
    looped = layout("interleaved_1f1b", stages=3)
    assert looped.num_stages == 12
    assert [looped.stages_of(rank) for rank in range(4)] == [
        (0, 4, 8),
        (1, 5, 9),
        (2, 6, 10),
        (3, 7, 11),
    ]


@pytest.mark.parametrize("name", ["zbv_zero_bubble", "dualpipe_v"])
def test_a_v_puts_the_last_stage_beside_the_first(name: str) -> None:
    folded = layout(name, stages=2)
    assert [folded.stages_of(rank) for rank in range(4)] == [(0, 7), (1, 6), (2, 5), (3, 4)]
    assert [folded.rank_of(stage) for stage in range(8)] == [0, 1, 2, 3, 3, 2, 1, 0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"schedule": "1f1b", "microbatches": 3, "stages": 1},
            "'1f1b' needs at least as many microbatches as stages; 3 microbatches do not fit 4 "
            "ranks with 4 stages; nearest: microbatches=4",
        ),
        (
            {"schedule": "dualpipe_v", "microbatches": 7, "stages": 2},
            "7 microbatches do not fit 4 ranks with 8 stages; nearest: microbatches=8",
        ),
        (
            {"schedule": "interleaved_1f1b", "microbatches": 9, "stages": 2},
            r"microbatches that divide into \(microbatches // ranks\) equal rounds; 9 microbatches "
            "do not fit 4 ranks with 8 stages; nearest: microbatches=8 or 10",
        ),
        (
            {"schedule": "zbv_zero_bubble", "stages": 3},
            "holds exactly 2 stages a rank, not 3; nearest: 2 a rank, which makes 8 "
            "stages on 4 ranks",
        ),
        (
            {"schedule": "looped_bfs", "stages": 1},
            "holds at least 2 stages a rank, not 1; nearest: 2 a rank",
        ),
        ({"schedule": "gpipe", "stages": 2}, "exactly 1 stages a rank, not 2"),
        ({"schedule": "gpipe", "stages": 1, "microbatches": 0}, "num_microbatches 0; both are at"),
        ({"schedule": "2f2b", "stages": 1}, "there is no schedule '2f2b'; choose from gpipe, 1f1b"),
    ],
)
def test_what_cannot_run_is_refused_with_the_nearest_that_can(
    wrong: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        layout(**wrong)  # type: ignore[arg-type]


def test_one_forward_one_backward_runs_ahead_by_its_distance_from_the_end() -> None:
    order = work_order(layout("1f1b", ranks=3, microbatches=4, stages=1))
    assert [" ".join(map(str, actions)) for actions in order] == [
        "0F0 0F1 0F2 0B0 0F3 0B1 0B2 0B3",
        "1F0 1F1 1B0 1F2 1B1 1F3 1B2 1B3",
        "2F0 2B0 2F1 2B1 2F2 2B2 2F3 2B3",
    ]


def test_gpipe_drains_after_it_filled() -> None:
    order = work_order(layout("gpipe", ranks=2, microbatches=2, stages=1))
    assert [" ".join(map(str, actions)) for actions in order] == [
        "0F0 0F1 0B0 0B1",
        "1F0 1F1 1B0 1B1",
    ]


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(("ranks", "microbatches"), [(1, 2), (2, 4), (3, 6), (4, 8), (4, 16)])
def test_every_stage_sees_every_microbatch_forward_and_back_once(
    name: str, ranks: int, microbatches: int
) -> None:
    whole = PipelineLayout.fewest_stages(name, num_ranks=ranks, num_microbatches=microbatches)
    order = work_order(whole)
    everything = [(a.stage, a.microbatch) for actions in order for a in actions if a.kind in "FBI"]
    each = [(stage, n) for stage in range(whole.num_stages) for n in range(microbatches)]
    assert sorted(everything) == sorted(each * 2)
    for kind in (Kind.BACKWARD_INPUT, Kind.BACKWARD_WEIGHT):
        assert kind in {a.kind for actions in order for a in actions} or not (
            SCHEDULES[name].splits_backward
        )
    for rank, actions in enumerate(order):
        assert {action.stage for action in actions} == set(whole.stages_of(rank))
