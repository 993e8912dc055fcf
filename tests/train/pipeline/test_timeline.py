from __future__ import annotations

import json

import pytest

from raymlops.train.pipeline import (
    SCHEDULES,
    Action,
    PipelineLayout,
    Span,
    Timeline,
    chrome_trace,
    draw,
    equal_stages,
    simulate,
    work_order,
)


def theory(schedule: str, *, ranks: int, microbatches: int, **seconds: float) -> Timeline:
    layout = PipelineLayout.fewest_stages(schedule, num_ranks=ranks, num_microbatches=microbatches)
    return simulate(work_order(layout), equal_stages(**seconds))


# Drawn by hand: forward 1 s, backward 2 s, four characters a second.
GPIPE = """
rank 0 |F0--F1--F2--............B0======B1======B2======|
rank 1 |....F0--F1--F2--B0======B1======B2======........|
25.0% bubble in 12 s
"""
ONE_FORWARD_ONE_BACKWARD = """
rank 0 |F0--F1--........B0======F2--B1======....B2======|
rank 1 |....F0--B0======F1--B1======F2--B2======........|
25.0% bubble in 12 s
"""
# Forward and both parts of the backward 1 s each; stages 0 and 3 on rank 0, 1 and 2 on rank 1.
ZERO_BUBBLE_V = """
rank 0 |0F0-........3F0-3I0~3W0+........0I0~0W0+|
rank 1 |....1F0-2F0-........2I0~2W0+1I0~1W0+....|
40.0% bubble in 10 s
"""


def test_gpipe_is_what_a_hand_draws() -> None:
    assert draw(theory("gpipe", ranks=2, microbatches=3), width=48) == GPIPE.strip()


def test_1f1b_is_what_a_hand_draws() -> None:
    timeline = theory("1f1b", ranks=2, microbatches=3)
    assert draw(timeline, width=48) == ONE_FORWARD_ONE_BACKWARD.strip()


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b"])
@pytest.mark.parametrize(("ranks", "microbatches"), [(2, 2), (4, 8), (4, 32), (8, 8)])
def test_the_bubble_is_that_of_the_formula(schedule: str, ranks: int, microbatches: int) -> None:
    bubble = theory(schedule, ranks=ranks, microbatches=microbatches).bubble_share
    assert bubble == pytest.approx((ranks - 1) / (microbatches + ranks - 1))


@pytest.mark.parametrize("schedule", sorted(SCHEDULES.keys() - {"gpipe", "1f1b"}))
def test_the_other_schedules_have_less_bubble(schedule: str) -> None:
    assert theory(schedule, ranks=4, microbatches=8).bubble_share < 3 / 11


def test_interleaving_divides_the_bubble_by_the_stages_a_rank() -> None:
    # D. Narayanan et al., 2021, section 2.2: (p-1)/m of the ideal time, divided by v.
    timeline = theory("interleaved_1f1b", ranks=4, microbatches=8)
    ideal_s = timeline.busy_s(0)
    assert (timeline.makespan_s - ideal_s) / ideal_s == pytest.approx(3 / 8 / 2)


def test_a_slow_stage_holds_the_others_up() -> None:
    layout = PipelineLayout.fewest_stages("1f1b", num_ranks=2, num_microbatches=4)
    slow = simulate(work_order(layout), lambda action: 3.0 if action.stage == 1 else 1.0)
    assert slow.busy_s(0) == 8.0
    assert slow.busy_s(1) == 24.0
    assert slow.makespan_s == 1.0 + 24.0 + 1.0
    assert slow.bubble_share == pytest.approx(1 - 32 / 52)


def test_typical_durations_are_medians_of_each_stage_and_kind() -> None:
    spans = [
        Span(rank=0, action=Action.parse(f"0F{n}"), start_s=10.0 * n, end_s=10.0 * n + seconds)
        for n, seconds in enumerate((1.0, 2.0, 9.0))
    ]
    typical_s = Timeline.of(1, spans).typical_durations()
    assert typical_s(Action.parse("0F7")) == 2.0


def test_an_order_that_waits_for_itself_is_refused() -> None:
    order = tuple((Action.parse(first), Action.parse(second)) for first, second in (
        ("0B0", "0F0"), ("1F0", "1B0"),
    ))  # fmt: skip
    with pytest.raises(ValueError, match="never ends: 0B0, 1F0 wait for each other"):
        simulate(order, equal_stages())


def test_what_is_no_action_is_refused() -> None:
    with pytest.raises(ValueError, match="'0SEND_F1' is no action; 2F0 is one"):
        Action.parse("0SEND_F1")


def test_a_timeline_starts_at_its_first_span() -> None:
    spans = [
        Span(rank=1, action=Action.parse("1F0"), start_s=103.0, end_s=104.0),
        Span(rank=0, action=Action.parse("0F0"), start_s=101.0, end_s=103.0),
    ]
    timeline = Timeline.of(2, spans)
    assert [(span.rank, span.start_s, span.end_s) for span in timeline.spans] == [
        (0, 0.0, 2.0),
        (1, 2.0, 3.0),
    ]
    assert timeline.bubble_share == pytest.approx(0.5)


def test_a_v_of_split_backwards_is_what_a_hand_draws() -> None:
    folded = theory("zbv_zero_bubble", ranks=2, microbatches=1)
    assert draw(folded, width=40) == ZERO_BUBBLE_V.strip()


def test_a_drawing_too_narrow_for_labels_cuts_them() -> None:
    lines = draw(theory("gpipe", ranks=2, microbatches=1), width=6).splitlines()
    assert lines[:2] == ["rank 0 |F...B0|", "rank 1 |.FB0..|"]


def test_a_chrome_trace_has_a_process_a_rank_and_microseconds() -> None:
    events = json.loads(chrome_trace(theory("gpipe", ranks=2, microbatches=1)))["traceEvents"]
    named = [e["args"]["name"] for e in events if e["ph"] == "M"]
    assert named == ["rank 0", "rank 1", "stage 0", "stage 1"]
    spans = [(e["name"], e["cat"], e["pid"], e["ts"], e["dur"]) for e in events if e["ph"] == "X"]
    assert spans == [
        ("0F0", "forward", 0, 0.0, 1e6),
        ("0B0", "backward", 0, 4e6, 2e6),
        ("1F0", "forward", 1, 1e6, 1e6),
        ("1B0", "backward", 1, 2e6, 2e6),
    ]
