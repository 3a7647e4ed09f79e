"""Copies of one's own files in which only the missing entries are filled: byte by byte where the format allows."""

import csv
import gzip
import io
import os
import stat
import sys

import numpy as np
import pytest
import torch

from pyro_hvae.data import Condition, check_copy, read_given, read_incomplete, write_filled
from pyro_hvae.data.files import filled_tables
from pyro_hvae.data.sets.user_data import load_user_data
from pyro_hvae.errors import ConfigError, DataError, DeviceError

PEOPLE = (
    "id,name,size,Größe,member,children,kind\r\n"
    '1,"Lee, Ann",1.5,,true,2,a\r\n'
    '2,"O""Hara",NA,170.25,,3,b\r\n'
    "\r\n"
    '3,"two\r\nlines", ? ,"181.0",false,,\r\n'
    ",,,,,,\r\n"
    '4,NA,"",165,true,1,a'
)
FILLED = (
    "id,name,size,Größe,member,children,kind\r\n"
    '1,"Lee, Ann",1.5,171.2342,true,2,a\r\n'
    '2,"O""Hara",-0.000123457,170.25,false,3,b\r\n'
    "\r\n"
    '3,"two\r\nlines", 2 ,"181.0",false,1.66667,\r\n'
    ",,,,,,\r\n"
    '4,NA,"7.5",165,true,1,a'
)
COLUMNS = ("Größe", "size", "member", "children")


def save(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def people_values():
    nan = np.nan
    x = np.array([[nan, 1.5, 1, 2], [170.25, nan, nan, 3], [181, nan, 0, nan], [165, nan, 1, 1]])
    filled = np.array([[171.23421, 9, 9, 9], [9, -0.0001234567, 0.4, 9], [9, 2.0, 9, 5 / 3], [9, 7.5, 9, 9]])
    return x, filled


@pytest.mark.parametrize(
    ("encoding", "mark"), [("utf-8", ""), ("utf-8-sig", ""), ("utf-16", ""), ("cp1252", ""), ("utf-16-be", "\ufeff")]
)
@pytest.mark.parametrize("end", ["\r\n", "\n", "\r"])
def test_only_the_missing_cells_of_x_change(tmp_path, encoding, mark, end):
    """Names with quotes, lines in a cell, empty rows, extra columns, and missing cells of other columns stay as they are."""
    path = save(tmp_path / "people.csv", mark + PEOPLE.replace("\r\n", end), encoding)
    x, filled = people_values()
    read = read_incomplete(path, COLUMNS)
    assert read.dtype == torch.float64
    np.testing.assert_array_equal(read.numpy(), x)
    write_filled(path, tmp_path / "out.csv", torch.from_numpy(filled), COLUMNS)
    assert (tmp_path / "out.csv").read_bytes() == (mark + FILLED.replace("\r\n", end)).encode(encoding)
    # What was filled is read again, and nothing is missing any more.
    complete = read_incomplete(tmp_path / "out.csv", COLUMNS).numpy()
    np.testing.assert_array_equal(complete[~np.isnan(x)], x[~np.isnan(x)])
    wanted = np.where(np.isnan(x), filled, x)
    wanted[1, 2] = 0  # the nearest of true and false
    np.testing.assert_allclose(complete, wanted, rtol=5e-6)


def test_compressed_tables(tmp_path):
    _, filled = people_values()
    (tmp_path / "people.csv.gz").write_bytes(gzip.compress(PEOPLE.encode()))
    write_filled(tmp_path / "people.csv.gz", tmp_path / "out.csv.gz", filled, COLUMNS)
    assert gzip.decompress((tmp_path / "out.csv.gz").read_bytes()).decode() == FILLED
    write_filled(tmp_path / "people.csv.gz", tmp_path / "out.csv", filled, COLUMNS)
    assert (tmp_path / "out.csv").read_bytes().decode() == FILLED
    write_filled(tmp_path / "out.csv", tmp_path / "again.csv.gz", filled, COLUMNS)
    assert gzip.decompress((tmp_path / "again.csv.gz").read_bytes()).decode() == FILLED  # nothing is missing


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("a;b\n1,5;2\n;0,25\n3;\n", "a;b\n1,5;2\n8,125;0,25\n3;0,3\n"),
        ("a;b\n1.5;2\n;0.25\n3;\n", "a;b\n1.5;2\n8.125;0.25\n3;0.3\n"),
        ("a;b\n1;2,5\n;0,25\n3;\n", "a;b\n1;2,5\n8,125;0,25\n3;0,3\n"),  # a whole column among decimal commas
        ("a;b\n1;2\n;5\n3;\n", "a;b\n1;2\n8.125;5\n3;0.3\n"),
        ('"a";"b"\n"1,5";"2"\n"";"0,25"\n"3";"NA"\n', '"a";"b"\n"1,5";"2"\n"8,125";"0,25"\n"3";"0,3"\n'),
        ("sep=;\na;b\n1,5;2\n;0,25\n3;\n", "sep=;\na;b\n1,5;2\n8,125;0,25\n3;0,3\n"),
        ("a\tb\n1.5\t2\n\t0.25\n3\t\n", "a\tb\n1.5\t2\n8.125\t0.25\n3\t0.3\n"),
        ("a|b\n1.5|2\n |0.25\n3|\n", "a|b\n1.5|2\n 8.125|0.25\n3|0.3\n"),
        ("# from, a program\n# a,b\n1.5,2\n,0.25\n3,\n", "# from, a program\n# a,b\n1.5,2\n8.125,0.25\n3,0.3\n"),
        ("# note\na,b\n1.5, 2\n NA ,0.25\n3, ?", "# note\na,b\n1.5, 2\n 8.125 ,0.25\n3, 0.3"),
        ("b,x,a\n2,u,1.5\n0.25,,\n,w,3\n", "b,x,a\n2,u,1.5\n0.25,,8.125\n0.3,w,3\n"),
    ],
)
def test_ways_to_write_a_table(tmp_path, text, filled):
    path = save(tmp_path / "t.csv", text)
    x = read_incomplete(path, ("a", "b"))
    assert x.isnan().nonzero().tolist() == [[1, 0], [2, 1]]
    write_filled(path, tmp_path / "o.csv", np.array([[0, 0], [8.125, 0], [0, 0.1 + 0.2]]), ("a", "b"))
    assert (tmp_path / "o.csv").read_bytes().decode() == filled


def test_a_table_without_names(tmp_path):
    path = save(tmp_path / "t.csv", "5.1,3.5,u\n4.9,,v\n,3.25,u\n")
    write_filled(path, tmp_path / "o.csv", np.full((3, 2), 0.5), ("column 1", "column 2"))
    assert (tmp_path / "o.csv").read_text() == "5.1,3.5,u\n4.9,0.5,v\n0.5,3.25,u\n"


def test_words_for_true_and_false(tmp_path):
    text = "a,b,c,d,e\nTRUE,False,1,,true\nFALSE,,0,true,\n,False,,True,1\n"
    path = save(tmp_path / "t.csv", text)
    values = np.array([[0, 0, 0, 0.2, 0], [0, 0.7, 0, 0, 1.0], [0.5, 0, 0.6, 0, 0]])
    with pytest.raises(
        DataError,
        match="has 'true' in column 'e', line 2, where a number is needed. Write a number",
    ):
        read_incomplete(path, ("a", "b", "c", "d", "e"))
    write_filled(path, tmp_path / "o.csv", values[:, :4], ("a", "b", "c", "d"))
    assert (tmp_path / "o.csv").read_text() == "a,b,c,d,e\nTRUE,False,1,false,true\nFALSE,True,0,true,\nTRUE,False,0.6,True,1\n"


def test_significant_digits(tmp_path):
    """Six, and as many more as a column needs that varies little about a large value."""
    times = [1.7e9 + 10.5 * i for i in range(5)]
    path = save(
        tmp_path / "t.csv", "t,a,empty,same\n" + "".join(f"{t!r},{i / 7:.9f},,3\n" for i, t in enumerate(times)) + ",,,\n,7,,\n"
    )
    x = read_incomplete(path, ("t", "a", "empty", "same"))
    assert len(x) == 6 and x[:, 2].isnan().all()  # a row of empty cells only is none
    write_filled(
        path,
        tmp_path / "o.csv",
        np.full((6, 4), [1.7e9 + 0.123456789, 0.1, 1234567.8, 2.999999999]),
        ("t", "a", "empty", "same"),
    )
    last = (tmp_path / "o.csv").read_text().splitlines()
    assert last[-2:] == [",,,", "1700000000.123,7,1234570,3"] and last[1].endswith(",1234570,3")


def test_any_text_that_the_reader_takes(tmp_path):
    """Random tables by Python's own writer, in all its styles: reading the copy gives the table with its holes filled."""
    random = np.random.default_rng(0)
    words = ["plain", 'with "quotes"', "comma, semi; colon", "line\nbreak", " blanks ", "NA", "", "'", "#1", "5", '"', '""']
    for number in range(60):
        delimiter = ",;\t|"[number % 4]
        quoting = [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC][number % 3]
        stream = io.StringIO()
        writer = csv.writer(stream, delimiter=delimiter, quoting=quoting, lineterminator=["\n", "\r\n"][number % 2])
        n, d = int(random.integers(3, 30)), int(random.integers(1, 5))
        names = [f"column {i}" for i in range(d)] + ["text", "key"]
        x = np.where(random.random((n, d)) < 0.3, np.nan, random.normal(size=(n, d)).round(3))
        order = random.permutation(d + 2)
        rows = [
            [*("" if v != v else v for v in row), words[random.integers(len(words))], f"k{i}"]
            for i, row in enumerate(x.tolist())
        ]
        for row in [names, *rows]:
            writer.writerow([row[i] for i in order])
        path = save(tmp_path / "t.csv", stream.getvalue())
        columns = names[:d]
        np.testing.assert_array_equal(read_incomplete(path, columns).numpy(), x)
        filled = random.normal(size=(n, d)).round(3)
        write_filled(path, tmp_path / "o.csv", filled, columns, overwrite=True)
        np.testing.assert_array_equal(read_incomplete(tmp_path / "o.csv", columns).numpy(), np.where(np.isnan(x), filled, x))
        old, new = (
            list(csv.reader(io.StringIO(file.read_bytes().decode(), newline=""), delimiter=delimiter))
            for file in (path, tmp_path / "o.csv")
        )
        texts = [names.index(name) for name in ("text", "key")]
        assert [[row[list(order).index(t)] for t in texts] for row in old] == [
            [row[list(order).index(t)] for t in texts] for row in new
        ]


def test_nothing_is_half_written_or_overwritten(tmp_path, monkeypatch):
    path = save(tmp_path / "t.csv", "a,b\n1,2\n,3\n")
    out = save(tmp_path / "o.csv", "precious")
    with pytest.raises(ConfigError, match="is there already. Choose another name, or overwrite it .--overwrite"):
        write_filled(path, out, np.ones((2, 2)), ("a", "b"))
    assert out.read_text() == "precious"
    write_filled(path, out, np.ones((2, 2)), ("a", "b"), overwrite=True)
    assert out.read_text() == "a,b\n1,2\n1,3\n"
    for values, why in (
        (np.ones((3, 2)), r"data of shape \(2, 2\), but filled has \(3, 2\)"),
        (np.full((2, 2), np.nan), "for the missing entries of t.csv are not finite"),
    ):
        with pytest.raises(ConfigError, match=why):
            write_filled(path, tmp_path / "new.csv", values, ("a", "b"))
    with pytest.raises(DataError, match="cannot write .* Choose a folder that exists"):
        write_filled(path, tmp_path / "nowhere/o.csv", np.ones((2, 2)), ("a", "b"))
    with pytest.raises(ConfigError, match="has to end in .csv. Change its name"):
        write_filled(path, tmp_path / "o.tsv", np.ones((2, 2)), ("a", "b"))
    monkeypatch.setattr(filled_tables, "format_number", lambda *_: 1 / 0)
    with pytest.raises(DataError, match="cannot read"):
        write_filled(path, tmp_path / "new.csv", np.ones((2, 2)), ("a", "b"))
    assert sorted(os.listdir(tmp_path)) == ["o.csv", "t.csv"]
    assert stat.S_ISREG(out.stat().st_mode)
    # A file may be filled in place, if that is asked.
    monkeypatch.undo()
    write_filled(path, path, np.ones((2, 2)), ("a", "b"), overwrite=True)
    assert path.read_text() == "a,b\n1,2\n1,3\n"


@pytest.mark.parametrize(
    ("columns", "error", "why"),
    [
        (("a", "z"), DataError, "has no column 'z', only a, kind, day, b. Add the column; where it is a part of x"),
        (("kind",), DataError, "the column 'kind' of .* holds classes, such as 'u' in line 2, but numbers are needed"),
        (("day",), DataError, "the column 'day' of .* holds dates"),
        (("b",), DataError, "has the value inf in column 'b', line 3"),
        ((), ConfigError, "not said which columns of .* are x. Name them by columns="),
    ],
)
def test_tables_of_another_kind(tmp_path, columns, error, why):
    path = save(tmp_path / "t.csv", "a,kind,day,b\n1,u,2024-01-01,2\n2,v,2024-01-02,inf\n,u,2024-01-03,3\n")
    with pytest.raises(error, match=why):
        read_incomplete(path, columns)
    assert read_incomplete(path, ("a",)).shape == (3, 1)


def test_files_that_cannot_be_filled(tmp_path):
    with pytest.raises(DataError, match="there is no file"):
        read_incomplete(tmp_path / "t.csv", ("a",))
    save(tmp_path / "t.h5ad", "")
    with pytest.raises(DataError, match="no kind that can be filled. Save it as .csv, .tsv, .*.parquet, .npy, .npz"):
        check_copy(tmp_path / "t.h5ad", tmp_path / "copy.h5ad")
    with pytest.raises(DataError, match="no kind that data are read from. Save it as .csv, .*.npz, .h5ad"):
        read_incomplete(save(tmp_path / "t.xlsx", ""), ("a",))
    with pytest.raises(DataError, match="cells in line 3"):
        read_incomplete(save(tmp_path / "t.csv", "a,b\n1,2\n3\n"), ("a",))


def test_parquet(tmp_path, monkeypatch):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {
        "kind": pyarrow.array(["x", None, "x", "y"]).dictionary_encode(),
        "a": pyarrow.array([1.5, None, -3.0, np.nan], pyarrow.float32()),
        "n": pyarrow.array([1, 200, None, 4], pyarrow.uint8()),
        "whole": pyarrow.array([1, 2, 3, 4], pyarrow.int64()),
        "yes": [True, None, None, False],
        "text": ["1.50", "2", None, "-1"],
        "list": [[1.0, 2.0], [1.0, 3.0], [1.0, 4.0], [2.0, 5.0]],
        "none": pyarrow.nulls(4),
    }
    path, out = tmp_path / "t.parquet", tmp_path / "o.parquet"
    table = pyarrow.table(columns).replace_schema_metadata({"made by": "hand"})
    parquet.write_table(table, path)
    x = ("a", "n", "whole", "yes", "text", "none")
    read = read_incomplete(path, x)
    assert read.isnan().nonzero().tolist() == [[0, 5], [1, 0], [1, 3], [1, 5], [2, 1], [2, 3], [2, 4], [2, 5], [3, 0], [3, 5]]
    filled = np.tile([0.25, 3.75, 9, 0.2, 0.125, 6.5], (4, 1))
    filled[2, 3] = 0.8
    write_filled(path, out, filled, x)
    new = parquet.read_table(out)
    assert new.column_names == table.column_names and new.schema.metadata == {b"made by": b"hand"}
    assert new["a"].to_pylist() == [1.5, 0.25, -3.0, 0.25] and new.schema.field("a").type == pyarrow.float32()
    assert new["n"].to_pylist() == [1, 200, 3.75, 4] and new["yes"].to_pylist() == [True, False, True, False]
    assert new["text"].to_pylist() == ["1.50", "2", "0.125", "-1"] and new["none"].to_pylist() == [6.5] * 4
    for name in ("kind", "whole", "list"):
        assert new[name].equals(table[name])
    parquet.write_table(pyarrow.table({"e": [[1.0, None], [2.0, 3.0], [4.0, 5.0]]}), path)
    with pytest.raises(ConfigError, match="'e_1' of .* is a number of a list, which cannot be filled. Save the table as CSV"):
        write_filled(path, out, np.ones((3, 2)), ("e_0", "e_1"), overwrite=True)
    assert parquet.read_table(out).equals(new)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DeviceError, match="needs the extra 'tables'"):
        read_incomplete(path, ("e_0",))


@pytest.mark.parametrize("kind", ["float32", "float64", "float16", ">f4"])
@pytest.mark.parametrize("event", [(3,), (4, 5), (4, 5, 3), (3, 4, 5), (7, 1)])
def test_arrays_of_floats(tmp_path, kind, event):
    random = np.random.default_rng(0)
    x = random.random((12, *event)).astype(kind)
    x[random.random(x.shape) < 0.3] = np.nan
    np.save(tmp_path / "x.npy", x)
    read = read_incomplete(tmp_path / "x.npy")
    data = load_user_data(tmp_path / "x.npy")
    assert read.shape[1:] == data.shape and read.isnan().sum() == np.isnan(x).sum()
    filled = read.clone()
    filled[read.isnan()] = torch.arange(int(read.isnan().sum()), dtype=torch.float64) / 512
    write_filled(tmp_path / "x.npy", tmp_path / "o.npy", filled)
    new = np.load(tmp_path / "o.npy")
    assert new.dtype == x.dtype and new.shape == x.shape
    np.testing.assert_array_equal(new[~np.isnan(x)], x[~np.isnan(x)])
    torch.testing.assert_close(read_incomplete(tmp_path / "o.npy"), filled, rtol=2e-3 if "16" in kind else 1e-6, atol=0)


@pytest.mark.parametrize("pack", [np.savez, np.savez_compressed])
def test_archives_with_masks(tmp_path, pack):
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (12, 4, 5), dtype=np.uint8)
    observed = random.random(pixels.shape) < 0.7
    others = {"names": np.array(["u", "v"] * 6), "objects": np.array([{}, None], dtype=object), "kind": np.arange(12) % 3}
    for stored, values, wanted, top in (
        (pixels, 0.5, np.where(observed, pixels, 128), 255),
        (pixels.astype(np.int64), 0.5, np.where(observed, pixels, 128), 255),
        (pixels > 99, 0.5, np.where(observed, pixels > 99, True), 1),
        ((pixels > 99).astype(np.uint8), 0.25, np.where(observed, pixels > 99, 0.25), 1),
    ):
        pack(tmp_path / "x.npz", images=stored, mask=observed, **others)
        read = read_incomplete(tmp_path / "x.npz")
        assert torch.equal(~read.isnan(), torch.from_numpy(observed)[:, None]) and read.nan_to_num(0).max() <= 1
        write_filled(tmp_path / "x.npz", tmp_path / "o.npz", read.nan_to_num(values), overwrite=True)
        with np.load(tmp_path / "o.npz", allow_pickle=True) as new:
            np.testing.assert_array_equal(new["images"], wanted)
            assert new["images"].dtype == (stored.dtype if values == 0.5 else np.float64) and new["mask"].all()
            assert all(np.array_equal(new[name], others[name]) for name in others)
        complete = load_user_data(tmp_path / "o.npz")
        assert not complete.train.x.incomplete
        torch.testing.assert_close(read_incomplete(tmp_path / "o.npz"), torch.from_numpy(wanted / top)[:, None])


def test_vectors_of_whole_numbers_keep_the_decimals_of_what_is_filled(tmp_path):
    x, observed = np.arange(12).reshape(4, 3), np.ones((4, 3), bool)
    observed[1, 2] = False
    np.savez(tmp_path / "x.npz", x=x, observed=observed)
    write_filled(tmp_path / "x.npz", tmp_path / "o.npz", np.full((4, 3), 2.75))
    with np.load(tmp_path / "o.npz") as new:
        np.testing.assert_array_equal(new["x"], np.where(observed, x, 2.75))


def test_archives_of_several_parts(tmp_path):
    x = np.array([[1.0, np.nan], [2.0, 3.0], [4.0, 5.0]])
    np.savez(tmp_path / "x.npz", x_train=x, x_test=x[:2])
    with pytest.raises(DataError, match="several parts: x_train, x_test. Save the one that is meant in a file of its own"):
        read_incomplete(tmp_path / "x.npz")
    assert read_incomplete(tmp_path / "x.npz", key="x_test").shape == (2, 2)
    write_filled(tmp_path / "x.npz", tmp_path / "o.npz", np.full((2, 2), 9.0), key="x_test")
    with np.load(tmp_path / "o.npz") as new:
        assert new["x_test"].tolist() == [[1, 9], [2, 3]] and np.array_equal(new["x_train"], x, equal_nan=True)


def test_what_a_conditional_run_is_given(tmp_path):
    conditions = [
        Condition("kind", ("a", "b", "c")),
        Condition("age", mean=40.0, scale=10.0),
        Condition("level", ("0", "0.5", "1")),
    ]
    path = save(tmp_path / "t.csv", "x,level,kind,age\n1,1.0,b,50\n,0.50,a,35\n3,0,b,40\n")
    given = read_given(path, conditions)
    assert given["kind"].tolist() == [[0, 1, 0], [1, 0, 0], [0, 1, 0]] and given["age"].tolist() == [[1.0], [-0.5], [0.0]]
    assert given["level"].argmax(1).tolist() == [2, 1, 0] and given["age"].dtype == torch.float32
    assert read_given(path, []) == {}
    for text, why in (
        (
            "x,level,kind,age\n1,1,b,50\n,0,d,35\n",
            "t.csv data have the class 'd' of 'kind', but the programs know only a, b, c",
        ),
        ("x,level,kind,age\n1,1,b,50\n,0,a,\n", r"has no 'age' in line 3, and p\(x \| age\) says nothing"),
        (
            "x,level,kind,age\n1,1,b,50\n,0,,3\n",
            r"has no 'kind' in line 3, and p\(x \| kind\) says nothing about data without it",
        ),
        ("x,level,age\n1,1,50\n,0,3\n", "has no column 'kind', only x, level, age"),
        ("x,level,kind\n1,1,b\n,0,a\n", "has no column 'age', only x, level, kind"),
    ):
        with pytest.raises(DataError, match=why):
            read_given(save(path, text), conditions)
    np.savez(tmp_path / "x.npz", x=np.ones((4, 2)), kind=np.array(list("abca")), age=np.array([40.0, 50, 60, 41]))
    given = read_given(tmp_path / "x.npz", conditions[:2])
    assert given["kind"].argmax(1).tolist() == [0, 1, 2, 0] and given["age"][:3, 0].tolist() == [0, 1, 2]
    with pytest.raises(DataError, match="has no factor 'level' beside the data"):
        read_given(tmp_path / "x.npz", conditions)
    np.savez(tmp_path / "x.npz", x=np.ones((4, 2)), age=np.array([40.0, np.nan, 60, 41]))
    with pytest.raises(DataError, match=r"has no factor 'age' \(missing values\) beside the data"):
        read_given(tmp_path / "x.npz", conditions[1:2])
