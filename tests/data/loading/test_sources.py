"""What every source keeps, and what only files can get wrong."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import psutil
import pytest

from raymlops.data.loading import (
    ArraySource,
    Columns,
    FillingSource,
    MappedSource,
    Source,
    write_arrays,
    write_blocks,
)
from raymlops.errors import DataError, IntegrityError

# Of each of the two columns, less than the 64 KiB that the kernel maps around a page; in two such
# windows at the most.
CHUNK_BYTES = 2 * 2 * 65_536


@pytest.fixture(params=["arrays", "file", "file in a cache of two chunks"])
def source(request: pytest.FixtureRequest, digits: Columns, file: Path) -> Iterator[Source]:
    make: dict[str, Callable[[], Source]] = {
        "arrays": lambda: ArraySource(digits),
        "file": lambda: MappedSource(file),
        "file in a cache of two chunks": lambda: MappedSource(file, cache_bytes=2 * CHUNK_BYTES),
    }
    with ExitStack() as stack:
        made = make[request.param]()
        if isinstance(made, MappedSource):
            stack.enter_context(made)
        yield made


class TestEverySource:
    def test_gives_the_rows_that_are_asked_for(self, source: Source, digits: Columns) -> None:
        assert len(source) == 1797
        rows = np.random.default_rng(0).permutation(1797)[:700]
        for found, column in zip(source.take(rows), digits, strict=True):
            assert found.dtype == column.dtype
            np.testing.assert_array_equal(found, column[rows])

    def test_gives_a_row_as_often_as_it_is_asked_for(self, source: Source, digits: Columns) -> None:
        _, labels = source.take(np.array([1796, 0, 1796, 1796]))
        assert labels.tolist() == digits[1][[1796, 0, 1796, 1796]].tolist()

    def test_gives_copies(self, source: Source) -> None:
        images, _ = source.take(np.array([5]))
        images[:] = -1
        assert source.take(np.array([5]))[0].min() == 0

    def test_gives_no_rows_where_none_are_asked_for(self, source: Source) -> None:
        images, labels = source.take(np.empty(0, np.int64))
        assert images.shape == (0, 8, 8)
        assert labels.shape == (0,)

    @pytest.mark.parametrize("row", [-1, 1797])
    def test_refuses_a_row_that_is_not_there(self, source: Source, row: int) -> None:
        with pytest.raises(IndexError, match=f"rows .*{row}.* were asked for, of 1797"):
            source.take(np.array([3, row]))

    def test_fills_arrays_it_is_given(self, source: Source, digits: Columns) -> None:
        assert isinstance(source, FillingSource)
        assert [str(field) for field in source.fields] == ["float32[8, 8]", "int64[]"]
        rows = np.arange(1700, 1797)
        into = tuple(np.empty((97, *field.shape), field.dtype) for field in source.fields)
        source.take_into(rows, into)
        np.testing.assert_array_equal(into[0], digits[0][rows])

    def test_may_be_read_by_several_threads(self, source: Source, digits: Columns) -> None:
        draws = [np.random.default_rng(seed).permutation(1797)[:300] for seed in range(40)]
        with ThreadPoolExecutor(8) as threads:
            for rows, found in zip(draws, threads.map(source.take, draws), strict=True):
                np.testing.assert_array_equal(found[0], digits[0][rows])

    def test_crosses_to_another_process(self, source: Source, digits: Columns) -> None:
        there = pickle.loads(pickle.dumps(source))
        np.testing.assert_array_equal(there.take(np.array([7]))[0], digits[0][[7]])
        if isinstance(there, MappedSource):
            there.close()


def test_a_file_is_the_same_however_it_was_cut(digits: Columns, tmp_path: Path) -> None:
    write_arrays(tmp_path / "whole", digits, rows_per_chunk=500)
    cuts = np.cumsum([0, 0, 1, 499, 600, 3, 694])
    blocks = [tuple(column[a:b] for column in digits) for a, b in itertools.pairwise(cuts)]
    write_blocks(tmp_path / "cut", blocks, num_rows=1797, rows_per_chunk=500)
    assert (tmp_path / "cut").read_bytes() == (tmp_path / "whole").read_bytes()


@pytest.mark.parametrize(
    "column",
    [
        np.array([True, False]),
        np.array([3, 250], np.uint8),
        np.array([1.5, -2.0], np.float16),
        np.array([1 + 2j, 0]),
        np.arange(6).reshape(2, 3)[:, ::2],
        np.array([1.0, 2.0], ">f8"),
        np.zeros((2, 0)),
    ],
    ids=lambda column: f"{column.dtype}{column.shape}",
)
def test_every_kind_of_number_comes_back(column: np.ndarray, tmp_path: Path) -> None:
    write_arrays(tmp_path / "rows", [column])
    with MappedSource(tmp_path / "rows") as source:
        (found,) = source.take(np.array([1, 0]))
    assert found.dtype == column.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found, column[[1, 0]])


def test_a_file_without_rows_is_a_source_without_rows(tmp_path: Path) -> None:
    write_arrays(tmp_path / "rows", [np.empty((0, 4))])
    with MappedSource(tmp_path / "rows") as source:
        assert len(source) == 0


class TestBrokenFile:
    def test_one_that_is_cut_names_the_first_chunk_that_is_not_whole(self, file: Path) -> None:
        with file.open("rb+") as opened:
            opened.truncate(file.stat().st_size - 8 * 200)  # of labels, the last column
        message = r"chunk 8 of 10 \(rows 1440 to 1619\) is the first that is not whole"
        with pytest.raises(IntegrityError, match=message):
            MappedSource(file)

    def test_one_that_is_cut_while_it_is_read_ends_nobody(self, file: Path) -> None:
        with MappedSource(file) as source:
            source.take(np.arange(10))
            with file.open("rb+") as opened:
                opened.truncate(70_000)
            with pytest.raises(IntegrityError, match=r"chunk 0 of 10 .* is the first"):
                source.take(np.arange(500, 510))

    def test_a_changed_byte_names_its_chunk_and_spares_the_others(self, file: Path) -> None:
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
        with MappedSource(file) as source:
            source.take(np.arange(1620))
            for _ in range(2):
                with pytest.raises(IntegrityError, match=r"chunk 9 of 10 \(rows 1620 to 1796\)"):
                    source.take(np.array([3, 1796]))

    def test_a_changed_header_is_refused(self, file: Path) -> None:
        content = bytearray(file.read_bytes())
        content[100] ^= 1
        file.write_bytes(content)
        with pytest.raises(IntegrityError, match=r"the header of .*digits.rows is damaged"):
            MappedSource(file)

    def test_one_that_ends_in_its_header_is_refused(self, file: Path) -> None:
        file.write_bytes(file.read_bytes()[:90])
        with pytest.raises(IntegrityError, match="ends within its header, after 90 bytes"):
            MappedSource(file)

    def test_a_version_of_the_future_is_refused(self, file: Path) -> None:
        content = bytearray(file.read_bytes())
        content[16] = 7
        file.write_bytes(content)
        with pytest.raises(DataError, match="has version 7 of the format, this raymlops reads 1"):
            MappedSource(file)

    @pytest.mark.parametrize(
        "content", [b"", b"PAR1 and so on, for more than a header's length" * 3]
    )
    def test_another_kind_of_file_is_refused(self, content: bytes, tmp_path: Path) -> None:
        (tmp_path / "table").write_bytes(content)
        with pytest.raises(DataError, match=r"table holds no rows of raymlops; write them with"):
            MappedSource(tmp_path / "table")

    def test_none_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="nothing cannot be read: No such file"):
            MappedSource(tmp_path / "nothing")

    def test_refusing_one_leaves_no_file_open(self, file: Path) -> None:
        file.write_bytes(file.read_bytes()[:-1])
        before = psutil.Process().num_fds()
        with pytest.raises(IntegrityError):
            MappedSource(file)
        assert psutil.Process().num_fds() == before

    def test_another_file_at_the_same_path_is_not_taken_for_the_one_pickled(
        self, file: Path
    ) -> None:
        with MappedSource(file) as source:
            pickled = pickle.dumps(source)
        write_arrays(file, [np.zeros((1797, 8, 8), np.float32), np.zeros(1797, np.int64)])
        with pytest.raises(IntegrityError, match="have every machine read the same file"):
            pickle.loads(pickled)


class TestWriting:
    def test_what_fails_leaves_what_was_there(self, file: Path, digits: Columns) -> None:
        before = file.read_bytes()

        def blocks() -> Iterator[Columns]:
            yield digits
            raise RuntimeError("the disk it reads from broke")

        with pytest.raises(RuntimeError, match="the disk it reads from broke"):
            write_blocks(file, blocks(), num_rows=4000)
        assert file.read_bytes() == before
        assert list(file.parent.iterdir()) == [file]

    @pytest.mark.parametrize(
        ("blocks", "num_rows", "message"),
        [
            ([], 3, "there is no block to write"),
            ([()], 3, "0 columns of 3 rows"),
            ([(np.zeros(3),)], 4, "the blocks have 3 rows, 4 were announced"),
            ([(np.zeros(3),)] * 2, 4, "the blocks have at least 6 rows, 4 were announced"),
            (
                [(np.zeros((3, 2)),), (np.zeros((3, 4)),)],
                6,
                r"a block after 3 rows has columns float64\[4\], the first has float64\[2\]",
            ),
            ([(np.zeros(3), np.zeros(2))], 3, r"a block have \[3, 2\] rows"),
            ([(np.array(["a", "b"]),)], 2, r"<U1\[\] cannot be mapped; encode it"),
            ([(np.array([None, "b"]),)], 2, r"object\[\] cannot be mapped; encode it"),
        ],
    )
    def test_blocks_that_do_not_fit_are_refused(
        self, blocks: list[Columns], num_rows: int, message: str, tmp_path: Path
    ) -> None:
        with pytest.raises(DataError, match=message):
            write_blocks(tmp_path / "rows", blocks, num_rows=num_rows)
        assert list(tmp_path.iterdir()) == []

    def test_columns_of_several_lengths_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"\[3, 2\] rows; give columns of one length"):
            write_arrays(tmp_path / "rows", [np.zeros(3), np.zeros(2)])

    def test_chunks_without_rows_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="in chunks of 0 are no rows"):
            write_arrays(tmp_path / "rows", [np.zeros(3)], rows_per_chunk=0)


def test_a_cache_smaller_than_a_chunk_is_refused(file: Path) -> None:
    message = "may have 262144 bytes resident, the cache is 262143; give it more, or write"
    with pytest.raises(DataError, match=message):
        MappedSource(file, cache_bytes=CHUNK_BYTES - 1)


def test_a_closed_source_says_so(file: Path) -> None:
    source = MappedSource(file)
    source.close()
    source.close()
    with pytest.raises(ValueError, match=r"digits.rows is closed"):
        source.take(np.array([0]))


def test_closing_gives_the_file_and_the_map_back(file: Path) -> None:
    before, process = psutil.Process().num_fds(), psutil.Process()
    with MappedSource(file) as source:
        source.take(np.arange(1797))
        assert str(file) in {region.path for region in process.memory_maps()}
    assert process.num_fds() == before
    assert str(file) not in {region.path for region in process.memory_maps()}


def test_threads_wait_for_room_in_the_cache_and_all_come_through(
    file: Path, digits: Columns
) -> None:
    # Each batch needs the whole cache: a reader that held some and waited for more would block.
    rows = np.arange(0, 1797, 7)
    with MappedSource(file, cache_bytes=CHUNK_BYTES) as source, ThreadPoolExecutor(6) as threads:
        for found in threads.map(lambda _: source.take(rows), range(30)):
            np.testing.assert_array_equal(found[1], digits[1][rows])
