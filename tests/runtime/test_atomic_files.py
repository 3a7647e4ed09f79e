"""A file is replaced as a whole or not at all."""

import pytest

from pyro_hvae.errors import DataError
from pyro_hvae.runtime.atomic_files import atomic_write


@pytest.mark.parametrize("shared", [False, True])
def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path, shared):
    path = tmp_path / "file"
    with atomic_write(path, "", shared) as part:
        part.write_text("one")
        assert not path.exists()
    with pytest.raises(ZeroDivisionError), atomic_write(path, "", shared) as part:
        part.write_text("half")
        _ = 1 / 0
    assert path.read_text() == "one" and list(tmp_path.iterdir()) == [path]


def test_an_error_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match="cannot write '.*none/file': No such file or directory. Make it."):
        with atomic_write(tmp_path / "none/file", "Make it.") as part:
            part.write_text("one")
