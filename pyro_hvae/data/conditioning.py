"""Data sets for p(x | y): factors and columns beside x, as inputs that programs are given."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from pyro_hvae.data.conditions import Condition
from pyro_hvae.data.dataset import Dataset, Split
from pyro_hvae.data.factor_kinds import class_numbers, factor_values, is_identifier, list_splits
from pyro_hvae.data.option_checks import check_names
from pyro_hvae.data.rows import Rows
from pyro_hvae.data.size_factors import TOTAL, SizeFactor, give_totals, is_read
from pyro_hvae.data.standardization import Standardization
from pyro_hvae.errors import ConfigError, DataError, require_known

PIECE = 2**22  # values of x read at once
INCOMPLETE = "missing values"  # how the reason ends why readers leave a column or an array with empty cells aside


def condition_on(data: Dataset, names: Sequence[str], size_factor: str | None = None) -> tuple[Dataset, tuple[Condition, ...]]:
    """The data set whose x is read with the named factors or columns beside it, for p(x | y).

    A factor of integers, or of floats of few different values, is given as one-hot classes, those of the training data. Other
    factors, and columns of vectors, are given as numbers, standardised by mean and standard deviation of the training data. A
    column is no part of x any more, and becomes a factor. The images of a grid are given their factors, too.

    Arguments:
        names: of factors or columns.
        size_factor: a factor or column, or "total", the sum of x, that multiplies the means of counts (see `SizeFactor`).

    Returns:
        the data set, where `given` of each split's x has float32 values of shape (n, width) under the `key` of each condition;
        and the conditions, in the order of the names, the size factor last.

    Raises:
        ConfigError: for an unknown or repeated name, a row number, two names of one `key`, a column of data with pictures, or
            where no column of x is left.
        DataError: for missing values, a split without the factor, a class that the training data lack, and a size that is not
            positive.

    >>> train = Split(torch.zeros(4, 2), {"kind": torch.tensor([0, 1, 1, 0])})
    >>> data, (kind,) = condition_on(Dataset("toy", train, train, train, labels={"kind": ("cat", "dog")}), ["kind"])
    >>> kind.classes, data.test.x[1:3].given["kind"].tolist()
    (('cat', 'dog'), [[0.0, 1.0], [0.0, 1.0]])
    """
    factors, reasons = _list_factors(data), dict(data.unused)
    sizes = [size_factor] if size_factor and (size_factor != TOTAL or TOTAL in (*factors, *data.columns)) else []
    for name in (*names, *sizes):
        if name in reasons and name not in (*factors, *data.columns):
            if reasons[name].endswith(INCOMPLETE):
                raise _describe_missing(name, "some rows")
            raise ConfigError(
                f"'{name}' is neither a factor nor a column of x: it was left aside ({reasons[name]}). Choose another "
                f"condition, of {', '.join([*factors, *data.columns])}."
            )
    if names or not size_factor:
        check_names("condition", names, [*factors, *data.columns])
    for name in sizes:
        if name in names:
            raise ConfigError(f"size_factor={name}: '{name}' is a condition, too. Leave it out of one of the two.")
        if name in data.labels:
            raise ConfigError(
                f"size_factor={name}: '{name}' has classes, which are no sizes. Choose a column of positive numbers, or "
                "size_factor=total."
            )
        others = [other for other in (*factors, *data.columns) if other not in data.labels and other not in names]
        require_known("size factor", name, [TOTAL, *others])
    moved = _move_columns(data, [*names, *sizes])
    conditions = tuple(_measure(moved, name, name not in factors) for name in names)
    if size_factor:
        train = moved.train
        by_total = SizeFactor.measure_total(train.x) if not sizes else None
        conditions += (by_total or SizeFactor.measure_column(size_factor, train.factors[size_factor]),)
    return _give(moved, conditions), conditions


def give_conditions(data: Dataset, conditions: Sequence[Condition]) -> Dataset:
    """The data set with known conditions beside x, such as those of a run; `condition_on` says how.

    Raises:
        ConfigError: as `condition_on`.
        DataError: where the data lack a factor or some of its values, or have a class that is unknown.
    """
    known, reasons = [*_list_factors(data), *data.columns], dict(data.unused)
    read = [condition.name for condition in conditions if is_read(condition)]
    if lacking := next((name for name in read if name not in known), None):
        if reasons.get(lacking, "").endswith(INCOMPLETE):
            raise _describe_missing(lacking, "some rows")
        raise DataError(
            f"the programs are given '{lacking}' beside x, but the data have no factor or column of that name, only "
            f"{', '.join(known) or 'x'}. Add it to the data."
        )
    return _give(_move_columns(data, read), conditions)


def choose_columns(data: Dataset, names: Sequence[str]) -> Dataset:
    """The data set whose x has the named columns only, in this order; columns of motions, of which pictures need all, stay.

    Raises:
        DataError: where the data lack some of them.
    """
    columns = list(data.columns)
    if columns == list(names) or _is_drawn_as_a_whole(data):
        return data
    if lacking := [name for name in names if name not in columns]:
        why = [f"{name} ({data.unused[name]})" if name in data.unused else name for name in lacking]
        raise DataError(
            f"{data.name} lacks columns that the model learned: {', '.join(why)}. It has {', '.join(columns)}. Use a table "
            "like the run's."
        )
    chosen = _with_columns(data, [columns.index(name) for name in names])
    return replace(chosen, note=f"{data.note} Its columns were chosen by name, as the model learned them.".strip())


def _is_drawn_as_a_whole(data: Dataset) -> bool:
    return bool(data.picture or (data.inverse and not data.standardization))


def _with_columns(data: Dataset, places: Sequence[int]) -> Dataset:
    """The data set whose x has the columns at these places."""
    by = data.standardization
    by = by and Standardization(tuple(by.mean[i] for i in places), tuple(by.scale[i] for i in places))
    train, validation, test = (split.with_x(_keep_columns(split.x, places)) for split in list_splits(data).values())
    return replace(
        data,
        train=train,
        validation=validation,
        test=test,
        columns=tuple(data.columns[i] for i in places),
        standardization=by,
        inverse=by.undo if by else None,
    )


def _list_factors(data: Dataset) -> list[str]:
    return [*dict.fromkeys(name for split in list_splits(data).values() for name in split.factors)]


def _move_columns(data: Dataset, names: Sequence[str]) -> Dataset:
    """The data set with those names that are columns of x among the factors, in their own units; each factor is complete."""
    factors, by = _list_factors(data), data.standardization
    if moved := [name for name in names if name not in factors]:
        if _is_drawn_as_a_whole(data):
            raise ConfigError(
                f"'{moved[0]}' is a column of x, but pictures of these data need all columns, so it cannot be given beside x. "
                f"Choose a factor: {', '.join(factors) or 'there is none'}."
            )
        columns = list(data.columns)
        places = [columns.index(name) for name in moved]
        kept = [place for place in range(len(columns)) if place not in places]
        if not kept:
            raise ConfigError(f"no column of x is left where all are given: {', '.join(moved)}. Name fewer conditions.")

        def move(split: Split) -> Split:
            pieces = split.x.alone.split(max(1, PIECE // len(columns)))
            values = torch.cat([(by.undo(piece) if by else piece.double())[:, places] for piece in pieces])
            return split.with_x(split.x, dict(zip(moved, values.unbind(1), strict=True)))

        train, validation, test = map(move, list_splits(data).values())
        note = f"{data.note} Given beside x, no part of it: {', '.join(moved)}.".strip()
        data = _with_columns(replace(data, train=train, validation=validation, test=test, note=note), kept)
    for name in names:
        for part, split in list_splits(data).items():
            if name not in split.factors:
                raise DataError(
                    f"the {part} data have no '{name}', which is to be given beside x. Add it, or choose another condition."
                )
            if missing := int(split.factors[name].isnan().sum()):
                raise _describe_missing(name, f"{missing:,} of the {len(split):,} {part} data")
    return data


def _keep_columns(x: Rows, kept: Sequence[int]) -> Rows:
    index = torch.tensor(kept)

    def prepare(raw: Tensor) -> Tensor:
        values = x.prepare(raw)
        return values.index_select(1, index.to(values.device))

    return replace(x, prepare=prepare, event=(len(kept),))


def _describe_missing(name: str, where: str) -> DataError:
    return DataError(
        f"'{name}' is missing in {where}, and p(x | {name}) says nothing about data without it. Leave these rows out, fill "
        "the column in, or make it a part of x: a column of 0 and 1 for each class, empty where it is not known."
    )


def _measure(data: Dataset, name: str, is_column: bool) -> Condition:
    """The condition on a factor, with the classes or the scaling of the training data."""
    values = data.train.factors[name]
    if not is_column and is_identifier(data, name):
        raise ConfigError(
            f"most values of '{name}' occur once, as row numbers do, so nothing can be learned about p(x | {name}). Choose "
            "another condition."
        )
    if len(factor_values(data, name).unique()) == 1:
        raise ConfigError(
            f"'{name}' has one value in all data, so that p(x | {name}) is p(x). Choose another condition, or none."
        )
    if not is_column and class_numbers(data, name, values) is not None:
        return Condition(name, tuple(_name_classes(data.labels.get(name), values.unique())))
    by = Standardization.measure(Rows(values.double()[:, None]), [name])
    return Condition(name, mean=by.mean[0], scale=by.scale[0])


def _name_classes(labels: Sequence[str] | None, values: Tensor) -> list[str]:
    """The names of values of a factor: their labels, else the numbers themselves."""
    if labels:
        return [labels[int(value)] for value in values]
    return [str(value).removesuffix(".0") for value in values.numpy()]


def _give(data: Dataset, conditions: Sequence[Condition]) -> Dataset:
    keys = [condition.key for condition in conditions]
    if twice := [condition.name for condition in conditions if keys.count(condition.key) > 1]:
        raise ConfigError(f"programs would be given {' and '.join(map(repr, twice))} under one name. Rename one in the data.")
    grid = data.grid
    if grid:
        factors = dict(zip(grid.sizes, grid.values(torch.arange(len(grid.x))).unbind(1), strict=True))
        grid = replace(grid, x=_put_beside(grid.x, factors, data, conditions, "grid's"))

    def give(part: str, split: Split) -> Split:
        if grid and split.x.store is grid.x.store:  # no copy of what may be large
            return split.with_x(replace(split.x, given={**split.x.given, **grid.x.given}))
        return split.with_x(_put_beside(split.x, split.factors, data, conditions, part))

    train, validation, test = (give(part, split) for part, split in list_splits(data).items())
    return replace(data, train=train, validation=validation, test=test, grid=grid)


def _put_beside(x: Rows, factors: Mapping[str, Tensor], data: Dataset, conditions: Sequence[Condition], part: str) -> Rows:
    given = encode_factors(factors, data.labels, conditions, part)
    return x.with_given(given | give_totals(conditions, x, part))


def encode_factors(
    factors: Mapping[str, Tensor], labels: Mapping[str, Sequence[str]], conditions: Sequence[Condition], part: str
) -> dict[str, Tensor]:
    """What programs are given, float32 (n, width) under the key of each condition, of factors (n,) of some data.

    A size that is a total is none of the factors (see `give_totals`).

    Arguments:
        labels: the names of classes, as in `Dataset`. part: the data in words, for errors.

    Raises:
        DataError: for a class that is unknown.
    """
    given = {}
    for condition in filter(is_read, conditions):
        values, classes = factors[condition.name], condition.classes
        if not classes and condition.name in labels:
            raise DataError(
                f"'{condition.name}' is a number for the programs, but the {part} data have classes there. Use data of "
                "the same kind."
            )
        if classes:
            levels, values = values.unique(return_inverse=True)
            texts = _name_classes(labels.get(condition.name), levels)
            if unknown := [text for text in texts if text not in classes]:
                raise DataError(
                    f"the {part} data have the class '{unknown[0]}' of '{condition.name}', but the programs know only "
                    f"{', '.join(classes)}. Leave data of that class out, or train with some of them."
                )
            values = torch.tensor([classes.index(text) for text in texts])[values]
        given[condition.key] = condition.encode(values)
    return given
