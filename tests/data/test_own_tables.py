"""One's own tables: what a column is, every way to write a CSV file, and every damage."""

import gzip
import sys

import numpy as np
import pytest
import torch

from pyro_hvae.data import read_incomplete
from pyro_hvae.data.files import declared_sizes, table_files, text_tables
from pyro_hvae.data.sets.user_data import load_user_data
from pyro_hvae.errors import ConfigError, DataError, DeviceError

SPLITS = ("train", "validation", "test")


def save(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def rows(*columns):
    return "\n".join(",".join(map(str, row)) for row in zip(*columns, strict=True)) + "\n"


def whole(data):
    """x, with NaN in missing entries, and the factors of all data, in the order of the file."""
    order = torch.from_numpy(np.random.default_rng(0).permutation(sum(data.counts.values())))
    sizes = [len(getattr(data, part)) for part in SPLITS]
    places = torch.cat([order[sizes[1] + sizes[2] :], order[: sizes[1] + sizes[2]]]).argsort()
    factors = {
        name: torch.cat([getattr(data, part).factors[name] for part in SPLITS])[places].tolist() for name in data.train.factors
    }
    return torch.cat([getattr(data, part).x.alone[:] for part in SPLITS])[places], factors


def test_a_table_becomes_a_data_set(tmp_path):
    n = 40
    size = np.linspace(-3, 4, n).round(3)
    columns = {
        "": range(n),
        "sample_id": [7 * i + 3 for i in range(n)],
        "size": size,
        "count": [i % 7 for i in range(n)],
        "alive": ["True", "FALSE"] * (n // 2),
        "kind": ["red", "blue", "green", "blue"] * (n // 4),
        "class": [i % 3 for i in range(n)],
        "when": [f"2024-01-{1 + i % 28:02}" for i in range(n)],
        "at": [f"{1 + i % 28}.3.2024 12:{i:02}" for i in range(n)],
        "remark": [f'"a remark, number {i}"' for i in range(n)],
        "nothing": [""] * n,
    }
    path = save(tmp_path / "my table.csv", ",".join(columns) + "\n" + rows(*columns.values()))
    data = load_user_data(path)
    assert data.name == "my table.csv" and data.counts == {"all": n} and data.columns == ("size", "count", "alive")
    x, factors = whole(data)
    wanted = np.stack([size, columns["count"], [1, 0] * (n // 2)], 1)
    assert torch.equal(x, torch.from_numpy(wanted).float()) and x.dtype == torch.float32
    assert factors == {"kind": [2, 0, 1, 0] * (n // 4), "class": columns["class"]}
    assert data.labels == {"kind": ["blue", "green", "red"]} and not data.train.factors["class"].is_floating_point()
    for text in (
        "40 rows of my table.csv, 3 columns of numbers; factors: kind, class; not used: column 1 (row numbers), ",
        "sample_id (row numbers), when (dates), at (dates), remark (texts), nothing (empty); validation and test data",
    ):
        assert text in data.note


def test_columns_and_labels(tmp_path):
    table = "a,b,c,kind,size,age\n" + rows(
        [1.5, 2, 3, 4], [5, 5, 7, 8], [0, 1, 1, 0], ["x", "y", "x", "y"], [0.25, 1, 2, 3], [30, 31, 30, 29]
    )
    path = save(tmp_path / "t.csv", table)
    data = load_user_data(path, columns=("c", "a"))
    x, factors = whole(data)
    assert x.tolist() == [[0, 1.5], [1, 2], [1, 3], [0, 4]] and factors == {"kind": [0, 1, 0, 1]} and data.columns == ("c", "a")
    assert "not used: b (not in columns), size (not in columns), age (not in columns)" in data.note
    data = load_user_data(path, labels=("size", "b"))
    x, factors = whole(data)
    assert data.columns == ("a", "c", "age") and "not used: kind (not in labels)" in data.note and not data.labels
    assert factors == {"size": [0.25, 1, 2, 3], "b": [5, 5, 7, 8]}
    assert data.train.factors["size"].dtype == torch.float64 and data.train.factors["b"].dtype == torch.int64
    data = load_user_data(path, columns=("a",), labels=("kind",), standardize=True)
    assert data.standardization and data.train.factors["kind"].unique().tolist() in ([0], [1], [0, 1])
    for options, why in [
        ({"columns": ("d",)}, "no column called 'd'. Known: a, age"),
        ({"labels": ("kin",)}, "no label called 'kin'.*kind"),
        ({"columns": ("a", "a")}, "each only once"),
        ({"columns": ("kind",)}, "columns names 'kind', but it holds classes"),
        ({"columns": ("a",), "labels": ("a",)}, "'a' is in columns and in labels"),
        ({"key": "a"}, "key is an option of a file of arrays, but .*t.csv is a table"),
        ({"size": 3}, "size is an option of a folder of images"),
    ]:
        with pytest.raises(ConfigError, match=why):
            load_user_data(path, **options)
    np.save(tmp_path / "a.npy", np.zeros((9, 2)))
    with pytest.raises(ConfigError, match="columns is an option of a table"):
        load_user_data(tmp_path / "a.npy", columns=("a",))


@pytest.mark.parametrize(
    ("name", "text", "encoding", "about"),
    [
        ("a.csv", "größe,b\n1.5,2\n-3,4e1\n0,.5\n", "utf-8", ""),
        ("a.csv", "größe,b\r\n1.5,2\r\n\r\n-3,4e1\r\n0,.5", "utf-8-sig", ""),
        ("a.CSV", "größe;b\n1,5;2\n-3;4e1\n0;,5\n", "utf-8", "decimal commas"),
        ("a.csv", "größe;b\n1.5;2\n-3;4e1\n0;.5\n", "cp1252", "read as Windows-1252"),
        ("a.tsv", "größe\tb\n1.5\t2\n-3\t4e1\n0\t.5\n", "utf-16", ""),
        ("a.csv", '"größe", "b"\n" 1.5 ", "2"\n-3,4e1\n0,.5\n', "utf-8", ""),
        ("a.csv", "# größe,b\n1.5,2\n-3,4e1\n0,.5\n,\n", "utf-8", ""),
        ("a.csv", "größe|b\n1.5|2\n-3|4e1\n0|.5\n", "utf-8", ""),
        ("a.csv", '# größe,b, as 5" tubes\n#größe,b\n1.5,2\n-3,4e1\n0,.5\n', "utf-8", ""),
        ("a.csv", "# Source: here, there\n# another\ngröße,b\n1.5,2\n-3,4e1\n0,.5\n", "utf-8", ""),
        ("a.csv", "# Source: here, there\ngröße,b\n1.5,2\n-3,4e1\n0,.5\n", "utf-8", ""),
        ("a.csv", "sep=;\ngröße;b\n1,5;2\n-3;4e1\n0;,5\n", "utf-8", "decimal commas"),  # as Excel has it
        ("a.csv", "größe,b\r1.5,2\r-3,4e1\r0,.5\r", "utf-8", ""),
    ],
)
def test_ways_to_write_a_table(tmp_path, name, text, encoding, about):
    data = load_user_data(save(tmp_path / name, text, encoding))
    assert whole(data)[0].tolist() == [[1.5, 2], [-3, 40], [0, 0.5]] and data.columns == ("größe", "b")
    assert about in data.note and ("decimal" in data.note) == ("decimal" in about)
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text.encode(encoding)))
    assert torch.equal(whole(load_user_data(tmp_path / f"{name}.gz"))[0], whole(data)[0])


def test_a_first_line_of_data_is_no_header(tmp_path):
    data = load_user_data(save(tmp_path / "iris.csv", "5.1,3.5,setosa\n4.9,3,setosa\n6,2.5,other\n7,3,other\n"))
    assert len(whole(data)[0]) == 4 and data.columns == ("column 1", "column 2") and "first line holds data" in data.note
    assert data.labels == {"column 3": ["other", "setosa"]}
    data = load_user_data(save(tmp_path / "mnist.csv", "label,0,1,2\n7,0,255,3\n1,5,6,255\n7,0,0,0\n"))
    assert data.columns == ("0", "1", "2") and whole(data)[1] == {"label": [7, 1, 7]}
    assert whole(data)[0].tolist() == [[0, 255, 3], [5, 6, 255], [0, 0, 0]]


def test_large_tables_are_read_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(table_files, "CELLS", 9)
    n = 100
    values = np.random.default_rng(0).normal(size=n)
    late = ["1.5"] * (n - 1) + ["?"]
    path = save(tmp_path / "t.csv", "a,k,b\n" + rows(values, ["p", "q"] * (n // 2), range(0, 3 * n, 3)))
    x, factors = whole(load_user_data(path))
    assert torch.equal(x, torch.from_numpy(np.stack([values, np.arange(0, 3 * n, 3)], 1)).float())
    assert factors == {"k": [0, 1] * (n // 2)}
    path = save(path, "a,b\n" + rows(values, late))
    x, _ = whole(load_user_data(path))
    assert x.isnan().nonzero().tolist() == [[99, 1]] and torch.equal(x[:, 0], torch.from_numpy(values).float())
    with pytest.raises(DataError, match="no value in column 'b', line 101, and a factor needs one in each row"):
        load_user_data(path, labels=("b",))
    late[-1] = "red"
    with pytest.raises(DataError, match="has 'red' in column 'b', line 101, among numbers"):
        load_user_data(save(path, "a,b\n" + rows(values, late)))
    assert whole(load_user_data(path, labels=("b",)))[1]["b"] == [0] * 99 + [1]
    assert load_user_data(path, columns=("a",)).columns == ("a",)  # the advice


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("a,b\n", "names of 2 columns, but no rows"),
        ("a,b\n1,2\n3\n4,5\n", "has 1 cells in line 3, but 2 in its first"),
        ("a,a\n1,2\n", "two columns called 'a'"),
        ("a,b\n1,2\n3,inf\n", "has the value inf in column 'b', line 3"),
        ("a,b\n1,2\n3,1e39\n", "has the value 1e.39 in column 'b', line 3"),
        ('a,b\n1,"1,200"\n3,"3,000.5"\n', "has '1,200' in column 'b', line 2, among numbers"),
        ("a,b\n1,3%\n3,4%\n", "has '3%' in column 'b', line 2, among numbers"),
        ('a,b\n1,5\n2,"1,200"\n3,7\n4,"3,000"\n', "has '1,200' in column 'b', line 3, among numbers"),
        ('a,b\n1,"0,5"\n3,"1,25"\n', "has '0,5' in column 'b', line 2, among numbers"),
        ("a\tb\n1\t0,5\n3\t1,25\n", "has '0,5' in column 'b', line 2, among numbers"),
        ("a,b\n1,$3.50\n3,$4\n", "has '.3.50' in column 'b', line 2, among numbers"),
        ("a,b\n1,\u22123.5\n3,4\n", "has '\u22123.5' in column 'b', line 2, among numbers"),
        ("a b\n1.5 2\n3 4\n", "a b .classes.. Separate cells by commas"),
        ("a,b\n1,2\n3,4_0\n5,6\n", "has '4_0' in column 'b', line 3, among numbers"),
        ("a,b\nx,y\ny,z\nx,y\n", "no column of numbers to be x"),
        ('a,b\n1,"2\n3,4\n', "cannot read .*unexpected end of data"),
        ("a,b\n1,\0\n", "not a text of lines"),
    ],
)
def test_tables_that_are_refused(tmp_path, text, why):
    with pytest.raises(DataError, match=why):
        load_user_data(save(tmp_path / "t.csv", text))


def test_messages_name_the_line_where_a_row_begins(tmp_path):
    """Comments, empty lines and cells of several lines are above it."""
    path = tmp_path / "t.csv"
    path.write_text('# made by hand\na,note\n1,"two\nlines"\n\n2,x\n3,"three\n\nlines"\nfour,y\n5,z\n')
    assert path.read_text().splitlines()[9] == "four,y"
    with pytest.raises(DataError, match="has 'four' in column 'a', line 10, among numbers"):
        load_user_data(path)
    with pytest.raises(
        DataError, match="'four' in column 'a', line 10, where a number is needed. Write a number such as 1234.5"
    ):
        read_incomplete(path, ("a",))
    with pytest.raises(DataError, match="holds texts|holds classes, such as 'two\nlines' in line 3, but numbers are needed"):
        read_incomplete(path, ("note",))


def test_missing_classes(tmp_path):
    path = save(tmp_path / "t.csv", "a,k\n" + rows([1.5, 2, 3, 4], ["p", "", "q", "p"]))
    data = load_user_data(path)
    assert not data.train.factors and "k (classes with missing values)" in data.note
    with pytest.raises(DataError, match="no value in column 'k', line 3"):
        load_user_data(path, labels=("k",))


def test_sizes_are_compared_with_the_free_memory(tmp_path, monkeypatch):
    path = save(tmp_path / "t.csv", "a,b\n" + rows(range(100), range(100)))
    monkeypatch.setattr(declared_sizes, "free_memory", lambda: 1000)
    with pytest.raises(DataError, match="needs .* GB of memory, but .* GB are free"):
        load_user_data(path)
    monkeypatch.setattr(text_tables, "LONGEST", 1000)
    with gzip.open(tmp_path / "bomb.csv.gz", "wb") as file:
        file.write(b"0" * 10**6)
    with pytest.raises(DataError, match="not a text of lines"):
        load_user_data(tmp_path / "bomb.csv.gz")


def test_damaged_tables_raise_our_errors_only(tmp_path):
    text = "id,a,kind,when\n" + rows(range(30), np.linspace(0, 1, 30), ["p", "ü", '"q,r"'] * 10, ["2024-01-01"] * 30)
    path, read, random = tmp_path / "t.csv", 0, np.random.default_rng(0)
    for number in range(400):
        content = bytearray(gzip.compress(text.encode()) if number % 2 else text.encode())
        for place in random.integers(len(content), size=random.integers(1, 4)):
            content[place] = random.integers(256)
        content = content[: random.integers(len(content))] if number % 5 == 0 else content
        path = tmp_path / ("t.csv.gz" if number % 2 else "t.csv")
        path.write_bytes(content)
        try:
            load_user_data(path)
            read += 1
        except (DataError, ConfigError):  # too few rows are no damage
            pass
    assert 20 < read < 380


def test_parquet(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    with pytest.raises(DeviceError, match="needs the extra 'tables'"):
        load_user_data(tmp_path / "t.parquet")
    monkeypatch.undo()
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    import datetime

    columns = {
        "a": [1.5, 2.0, -3.0, 4.0],
        "n": pyarrow.array([1, 200, 1, 4], pyarrow.uint8()),
        "yes": [True, False, True, True],
        "kind": pyarrow.array(["x", "y", "x", "y"]).dictionary_encode(),
        "day": [datetime.date(2024, 1, day) for day in (1, 2, 3, 4)],
        "list": [[1], [2, 3], [], [4]],
    }
    path = tmp_path / "t.parquet"
    parquet.write_table(pyarrow.table(columns), path)
    data = load_user_data(path)
    assert whole(data)[0].tolist() == [[1.5, 1, 1], [2, 200, 0], [-3, 1, 1], [4, 4, 1]] and data.columns == ("a", "n", "yes")
    assert whole(data)[1]["kind"] == [0, 1, 0, 1] and data.labels["kind"] == ["x", "y"] and "day (dates)" in data.note
    parquet.write_table(pyarrow.table(columns | {"a": [1.5, None, 2, 3]}), path)
    assert whole(load_user_data(path))[0].isnan().nonzero().tolist() == [[1, 0]]
    content, random, read = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(300):
        damaged = bytearray(content)
        for place in random.integers(len(content), size=3):
            damaged[place] = random.integers(256)
        path.write_bytes(damaged[: None if random.random() < 0.8 else random.integers(len(content))])
        with pytest.raises((DataError, ConfigError)):
            load_user_data(path)
            read += 1
            raise DataError("read")
    assert read < 300


def test_lists_and_categories_in_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "t.parquet"
    columns = {
        "embedding": [[0.5, i, -i] for i in range(4)],
        "fixed": pyarrow.array([[float(i)] for i in range(4)], pyarrow.list_(pyarrow.float32(), 1)),
        "written": ["1.5", "2", "-3e1", "0"],
        "cluster": pyarrow.array(["0", "1", "1", "0"]).dictionary_encode(),
        "ragged": [[1.0], [2.0, 3.0], [], [4.0]],
        "words": [["a"], ["b"], ["c"], ["d"]],
        "struct": [{"b": 1}] * 4,
        "picture": [b"x"] * 4,
    }
    parquet.write_table(pyarrow.table(columns), path)
    data = load_user_data(path)
    x, factors = whole(data)
    assert data.columns == ("embedding_0", "embedding_1", "embedding_2", "fixed_0", "written")
    assert x.tolist() == [[0.5, i, -i, i, w] for i, w in enumerate([1.5, 2, -30, 0])]
    assert factors == {"cluster": [0, 1, 1, 0]} and data.labels == {"cluster": ["0", "1"]}
    for text in ("ragged (lists of several lengths", "words (lists", "struct (structures or bytes)", "picture (structures"):
        assert text in data.note
    with pytest.raises(ConfigError, match="labels names 'ragged', but it holds lists of several lengths"):
        load_user_data(path, labels=("ragged",))
    with pytest.raises(ConfigError, match="columns names 'struct', but it holds structures or bytes"):
        load_user_data(path, columns=("struct",))
    parquet.write_table(pyarrow.table({"e": [[1.0, None], [2.0, 3.0], [4.0, 5.0]]}), path)
    assert whole(load_user_data(path))[0].isnan().nonzero().tolist() == [[0, 1]]
    parquet.write_table(pyarrow.table({"e": [[1.0], None, [4.0]]}), path)
    with pytest.raises(DataError, match="e .lists of several lengths or of no numbers.. Give columns"):
        load_user_data(path)


def test_a_text_among_very_many_numbers_is_found_at_once(tmp_path):
    """This takes seconds; it took minutes when each number was looked for among all others."""
    path = tmp_path / "long.csv"
    path.write_text("a,b\n" + "".join(f"{i / 7:.4f},1\n" for i in range(300_000)) + "sensor off,1\n")
    with pytest.raises(DataError, match="'sensor off' in column 'a', line 300002, among numbers"):
        load_user_data(path)


def test_comments_above_a_table(tmp_path):
    """Names above texts are told from a comment; rows are counted with the comments, as an editor shows them."""
    path = save(tmp_path / "t.csv", "# kind, size\n" + "red,1.5\nblue,2\nred,3\nblue,4\n")
    assert load_user_data(path).columns == ("size",)
    path = save(tmp_path / "t.csv", "# made by a program\n2,1\n3,4\n5,6\n")
    assert load_user_data(path).columns == ("column 1", "column 2")
    np.savetxt(path, np.arange(8.0).reshape(4, 2), delimiter=",", header="first line\na,b")
    assert load_user_data(path).columns == ("a", "b") and whole(load_user_data(path))[0].sum() == 28
    for text, why in (("# one\n# two\n", "is empty"), ("# a,b\n", "has the names of 2 columns, but no rows")):
        with pytest.raises(DataError, match=why):
            load_user_data(save(path, text))
    with pytest.raises(DataError, match="column 'b', line 4"):
        load_user_data(save(path, "# about\na,b\n1,2\n1,inf\n3,4\n5,6\n"))


def test_classes_that_are_numbers_are_in_their_order(tmp_path):
    path = save(
        tmp_path / "t.csv", "a,level\n" + rows([i / 2 for i in range(12)], [f"{i}" if i < 11 else "high" for i in range(12)])
    )
    data = load_user_data(path, labels=("level",))
    assert data.labels["level"] == [*map(str, range(11)), "high"]
