"""Reading answers and voting on them: plain functions of plain values."""
