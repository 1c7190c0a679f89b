"""The report of `fusion_quality.py`."""


def report_of(rows, plot, *, as_json):
    from collections import defaultdict

    n = defaultdict(list)
    for r in rows:
        n[r["part"], r["dataset"], r["system"]].append(r["answer"] == r["gold"])
    for k, v in n.items():
        print(*k, sum(v), len(v))
