"""A thousand damaged files, none of which may end in anything but data or an error of the package (see `fuzzing`)."""

import gc
import re
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured by /proc")
sys.path.insert(0, str(Path(__file__).parent))


def test_readers_survive_damaged_files():
    import fuzzing

    counts, findings, _ = fuzzing.run(1000, seed=1)
    assert not findings, "\n".join(findings)
    assert sum(kinds.total() for kinds in counts.values()) == 1000 and len(counts) > 20
    for name, kinds in counts.items():  # not all of what is tried is beyond reading
        assert 0 < kinds["read"] + kinds["refused"], name
    assert sum(kinds["read"] for kinds in counts.values()) > 100 < sum(kinds["refused"] for kinds in counts.values())


def test_what_is_a_finding(tmp_path, monkeypatch):
    import fuzzing

    from pyro_hvae.errors import DataError

    held = []

    def refuse(path):
        try:
            raise MemoryError
        except MemoryError as error:
            raise DataError("refused") from error

    def fail(error):
        raise error

    def verdict(read):
        return fuzzing.judge(fuzzing.Reader("a", read, []), tmp_path)

    monkeypatch.setattr(fuzzing, "TIME", 1)
    monkeypatch.setattr(fuzzing, "MEMORY", 2**26)
    before = fuzzing.signal.signal(fuzzing.signal.SIGALRM, fuzzing._stop)
    try:
        assert verdict(lambda path: None) == "read" and verdict(lambda path: fail(DataError("no"))) == "refused"
        assert re.match(r"KeyError in test_fuzzing.py:\d+: 'a'", verdict(lambda path: {}["a"]))
        assert verdict(refuse) == "MemoryError"
        assert verdict(lambda path: fuzzing.time.sleep(5)) == "more than 1 s"
        gc.collect()  # what earlier tests left must not be freed while this is measured
        assert re.match(r"\d+ MiB", verdict(lambda path: held.append(np.ones(2**26))))
    finally:
        fuzzing.signal.signal(fuzzing.signal.SIGALRM, before)


def test_an_input_is_always_the_same():
    import fuzzing

    reader = {"csv": fuzzing.Reader("a.csv", fuzzing.load, [b"a,b\n1,2\n" * 50], [(b"1,2\n" * 9, bytes.upper)])}
    inputs = [fuzzing.make_input(reader, 3, number) for number in range(50)]
    assert inputs == [fuzzing.make_input(reader, 3, number) for number in range(50)] and len({*inputs}) > 40
