"""What a figure can show: intervals, exact tests and calibration against values computed elsewhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.statistics import accuracy, calibration, difference, mcnemar

scores = st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=60)


@pytest.mark.parametrize(
    ("right", "n", "level", "low", "high"),
    [  # the quantiles of the binomial, of which a bootstrap of rights and wrongs is a sample (scipy.stats.binom.ppf)
        (50, 100, 0.95, 0.40, 0.60),
        (282, 300, 0.95, 0.9133333, 0.9666667),
        (40, 50, 0.90, 0.70, 0.88),
    ],
)
def test_the_interval_of_an_accuracy_is_the_binomials(right, n, level, low, high):
    found = accuracy([1] * right + [0] * (n - right), level=level)
    assert found.mean == pytest.approx(right / n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1 / n + 1e-9)


def test_scores_of_many_values_are_resampled_too():
    found = accuracy([at / 100 for at in range(101)])  # uniform: deviation .2915, error of the mean .0290
    assert found.mean == pytest.approx(0.5)
    assert (found.low, found.high) == pytest.approx((0.443, 0.557), abs=0.003)


@given(scores, st.integers(0, 5))
def test_an_interval_holds_its_mean_and_stays_within_the_scores(right, seed):
    found = accuracy(right, resamples=500, seed=seed)
    assert min(right) <= found.low <= found.high <= max(right)
    assert found == accuracy(right, resamples=500, seed=seed)
    if len(set(right)) == 1:
        assert found.low == found.mean == found.high


@given(scores)
def test_nothing_differs_from_itself(right):
    found = difference(right, right, resamples=100)
    assert (found.mean, found.low, found.high) == (0, 0, 0)


def test_a_paired_difference_is_narrower_than_the_accuracies_it_is_between():
    theirs = [1, 0] * 50
    ours = [1, *theirs[1:99], 1]  # one more right
    found = difference(ours, theirs)
    assert found.mean == pytest.approx(0.01)
    assert (found.low, found.high) == pytest.approx((0.0, 0.03), abs=0.011)


def test_scores_that_do_not_pair_and_no_scores_are_refused():
    with pytest.raises(ValueError, match=r"shorter|longer"):
        difference([1, 0], [1])
    with pytest.raises(ValueError, match="at least one"):
        accuracy([])
    with pytest.raises(ValueError, match=r"shorter|longer"):
        mcnemar([True], [])


def marks(only_ours, only_theirs, both=5, neither=3):
    pairs = [(True, False)] * only_ours + [(False, True)] * only_theirs + [(True, True)] * both
    return zip(*(pairs + [(False, False)] * neither), strict=True)


@pytest.mark.parametrize(
    ("only_ours", "only_theirs", "p_value"),
    [  # scipy.stats.binomtest; the first rows by hand: 2/64, 158/4096
        (0, 6, 0.03125),
        (10, 2, 0.03857421875),
        (37, 61, 0.019690184799846844),
        (600, 400, 2.728464156065947e-10),
        (1, 0, 1.0),
        (0, 0, 1.0),
        (4, 4, 1.0),
    ],
)
def test_mcnemar_is_exact_and_counts_only_where_just_one_was_right(only_ours, only_theirs, p_value):
    ours, theirs = marks(only_ours, only_theirs)
    found = mcnemar(ours, theirs)
    assert (found.only_ours, found.only_theirs) == (only_ours, only_theirs)
    assert found.p_value == pytest.approx(p_value, rel=1e-9)


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_does_not_care_who_is_who(a, b):
    one, other = marks(a, b)
    found, turned = mcnemar(one, other), mcnemar(other, one)
    assert found.p_value == turned.p_value
    assert 0 < found.p_value <= 1


def test_the_calibration_error_is_the_mean_gap_between_confidence_and_accuracy():
    found = calibration([0.95, 0.95, 0.55, 0.55], [1, 0, 1, 1])
    assert found.ece == pytest.approx(0.45)  # half of them .45 too sure, half of them .45 too modest
    assert [(b.count, round(b.confidence, 2), b.accuracy) for b in found.bins] == [(2, 0.55, 1.0), (2, 0.95, 0.5)]
    assert calibration([1.0, 1.0, 0.0], [1, 1, 0]).ece == 0


def test_bounds_fall_into_the_bin_below_them():
    found = calibration([0.0, 0.1, 0.2, 1.0], [0, 0, 0, 1])
    assert [(round(b.low, 1), b.count) for b in found.bins] == [(0.0, 2), (0.1, 1), (0.9, 1)]


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=50), st.integers(1, 20))
def test_every_answer_is_in_one_bin(answers, bins):
    sure, right = zip(*answers, strict=True)
    found = calibration(sure, right, bins)
    assert sum(b.count for b in found.bins) == len(answers)
    assert 0 <= found.ece <= 1
    assert all(b.low - 1e-9 <= b.confidence <= b.high + 1e-9 for b in found.bins)


@pytest.mark.parametrize(("sure", "right"), [([], []), ([0.5], []), ([1.5], [1]), ([float("nan")], [1])])
def test_confidences_that_are_none_are_refused(sure, right):
    with pytest.raises(ValueError, match="confidence"):
        calibration(sure, right)
