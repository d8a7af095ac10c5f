"""Lines of a title and some short figures, aligned; when there is not room for all, the title gives way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

GAP = "  "
LEAST = 20  # columns that a title keeps, whatever else there is


def aligned(lines: Sequence[tuple[Text, Sequence[Text]]], width: int) -> Iterator[Text]:
    """Every line has the same number of figures, the first of them left-aligned, the others right."""
    columns = [
        max(figure.cell_len for figure in column) for column in zip(*(figures for _, figures in lines), strict=True)
    ]
    used = sum(column + len(GAP) for column in columns if column)
    room = max(LEAST, width - used)
    room = min(room, max((title.cell_len for title, _ in lines), default=0))
    for title, figures in lines:
        line = title.copy()
        line.truncate(room, overflow="ellipsis", pad=True)
        for number, (figure, column) in enumerate(zip(figures, columns, strict=True)):
            if column:
                padding = " " * (column - figure.cell_len)
                line = (
                    Text.assemble(line, GAP, figure, padding)
                    if number == 0
                    else Text.assemble(line, GAP, padding, figure)
                )
        line.rstrip()
        yield line
