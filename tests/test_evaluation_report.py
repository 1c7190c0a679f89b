"""A report's numbers are those that a hand would get from the rows; its page fetches nothing and escapes everything."""

import re
import warnings
from html.parser import HTMLParser

import pytest

from eot.types import Exchange, Question, Stop, Support, Thought, Usage, Verdict
from evaluation import Labelled, Outcome, Results, Row, summarise, write
from evaluation.cells import score_cells
from evaluation.page import page
from evaluation.plots import pareto, plots

PNG = b"\x89PNG\r\n\x1a\n"


def outcome(answer, calls=1, tokens=(10, 5), seconds=1.0, cost=0.0, **more):
    used = Usage(calls=calls, input_tokens=tokens[0], output_tokens=tokens[1], cost_usd=cost)
    return Outcome(answer=answer, text=f"The answer is {answer}.", usage=used, seconds=seconds, **more)


def council(answer, speaker, agreed, rounds, stop, support):
    turns = tuple(tuple(Thought(agent=name, round=at, text="x") for name in "abc") for at in range(rounds + 1))
    exchange = Exchange(
        id="r",
        question=Question(text="?"),
        kind="number",
        topology="memory",
        hears=dict.fromkeys("abc", ("a", "b", "c")),
        rounds=turns,
        stop=Stop(rule=stop, round=rounds),
    )
    supports = (Support(answer=answer, agents=tuple(agreed), share=support),)
    verdict = Verdict(answer=answer, text="x", agent=speaker, how="majority", support=support, supports=supports)
    return outcome(answer, 3 * (rounds + 1), (100, 20), 2.0, exchange=exchange, verdict=verdict, support=support)


def made_rows():
    """Ten questions, gold "1". Round 0 is right on q0-q4, the verdict on q0-q3 and q5-q7, cot on q0-q5 (q9 lost)."""
    for at in range(10):
        right = at in {0, 1, 2, 3, 5, 6, 7}
        rounds, stop = (0, "unanimous") if at < 4 else (2, "rounds")
        said = council("1" if right else "2", "a" if at < 6 else "b", "ab" if right else "c", rounds, stop, 0.75)
        yield Row(system="council:d", question=f"q{at}", correct=right, outcome=said)
    for at in range(10):
        was = outcome("1" if at < 5 else "3", 3, support=1.0 if at < 5 else 0.25)
        yield Row(system="round0:d", question=f"q{at}", correct=at < 5, outcome=was)
    for at in range(9):
        yield Row(system="cot:a", question=f"q{at}", correct=at < 6, outcome=outcome("1", cost=None if at else 0.5))
    yield Row(system="cot:a", question="q9", failure="the model is gone")
    for name, good in (("a", 6), ("b", 8), ("c", 8)):
        for at in range(10):
            yield Row(system=f"single:{name}", question=f"q{at}", correct=at < good, outcome=outcome("1"))


@pytest.fixture
def report(tmp_path):
    """From a file of results, as a user's folder holds it."""
    with Results(tmp_path / "results.jsonl") as results:
        for row in made_rows():
            results.append(row)
        return summarise(results.find(row.system, row.question, "") for row in made_rows())


def test_accuracy_counts_graded_questions_and_failures_apart(report):
    council, cot = report.score("council:d"), report.score("cot:a")
    assert (council.right, council.graded, council.accuracy.mean) == (7, 10, 0.7)
    assert (cot.right, cot.graded, cot.answered, cot.failed) == (6, 9, 9, 1)
    assert cot.accuracy.mean == pytest.approx(6 / 9)
    # 10,000 resamples of 10 questions, 7 of them right: 2.5 % lie at 4 or below, 97.5 % at 10 or below (binomial).
    assert (council.accuracy.low, council.accuracy.high) == (0.4, 1.0)


def test_spending_is_a_mean_a_question_and_an_unknown_price_stays_unknown(report):
    council, cot = report.score("council:d"), report.score("cot:a")
    assert council.calls == pytest.approx((4 * 3 + 6 * 9) / 10)
    assert (council.input_tokens, council.output_tokens, council.tokens, council.seconds) == (100, 20, 120, 2.0)
    assert council.cost_usd == 0
    assert cot.cost_usd is None
    assert score_cells(cot)[8] == "unknown"
    assert "cot:a: its cost is unknown, because the price of a call is" in report.notes


def test_paired_tests_use_the_questions_that_both_have(report):
    found = {(one.system, one.baseline): one for one in report.comparisons}
    shadow = found["council:d", "round0:d"]
    # Mended 5, 6, 7 and broken 4: P(X <= 1 | 4 fair coins) x 2 = 2 x 5/16.
    assert (shadow.test.only_ours, shadow.test.only_theirs) == (3, 1)
    assert shadow.test.p_value == pytest.approx(0.625)
    assert shadow.difference.mean == pytest.approx(0.2)
    cot = found["council:d", "cot:a"]
    assert cot.questions == 9
    assert (cot.test.only_ours, cot.test.only_theirs, cot.test.p_value) == (2, 1, 1.0)
    assert not any(one.baseline in ("council:d", one.system) for one in report.comparisons)


def test_what_the_exchange_mended_broke_and_left_is_named(report):
    (one,) = report.exchanges
    assert [case.question for case in one.mended] == ["q5", "q6", "q7"]
    assert [(case.question, case.before, case.after) for case in one.broken] == [("q4", "1", "2")]
    assert [case.question for case in one.left] == ["q8", "q9"]
    assert one.kept == 4


def test_rounds_stop_rules_and_win_shares_are_counted(report):
    (one,) = report.exchanges
    assert one.rounds == {0: 4, 2: 6}
    assert one.stops == {"rounds": 6, "unanimous": 4}
    assert {name: (won.spoke, won.agreed) for name, won in one.winners.items()} == {
        "a": (0.6, 0.7),
        "b": (0.4, 0.7),
        "c": (0.0, 0.3),
    }


def test_calibration_is_of_the_support_of_the_answer(report):
    assert report.score("council:d").calibration.ece == pytest.approx(0.05)  # support .75, right .70
    assert report.score("round0:d").calibration.ece == pytest.approx(0.5 * 0 + 0.5 * 0.25)
    assert report.score("cot:a").calibration is None


def test_the_best_single_agent_is_chosen_with_hindsight_and_said_to_be(report):
    best = report.score("best-single")
    assert (best.hindsight, best.right) == ("single:b", 8)
    assert any("a bound, not a method" in note for note in report.notes)
    assert "best-single" not in [score.system for score in pareto(report.scores)]


def test_the_front_holds_whom_nobody_beats_in_accuracy_and_tokens(report):
    assert [score.system for score in pareto(report.scores)] == ["single:b"]
    without = [score for score in report.scores if not score.system.startswith(("single", "best"))]
    assert [score.system for score in pareto(without)] == ["cot:a", "council:d"]


def test_a_report_comes_back_from_its_json(report):
    assert type(report).model_validate_json(report.model_dump_json()) == report


def test_the_folder_holds_the_page_the_json_and_the_pictures(report, tmp_path):
    write(report, [], tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "report.html",
        "report.json",
        "front.png",
        "calibration.png",
        "exchange.png",
    }
    for picture in (tmp_path / "out").glob("*.png"):
        assert picture.read_bytes().startswith(PNG)
    assert type(report).model_validate_json((tmp_path / "out" / "report.json").read_bytes()) == report


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


ATTACK = '<script>alert(1)</script><img src=x onerror="alert(2)">"><a href="https://evil.example">&'


def attacked():
    """Every text that comes from outside is an attack: question, gold, answers, failures, names."""
    for at in range(2):
        for system, right in (("council:" + ATTACK, True), ("round0:" + ATTACK, False)):
            said = council(ATTACK, ATTACK, [ATTACK], 1, "rounds", 1.0)
            yield Row(system=system, question=f"q{at}{ATTACK}", correct=right, outcome=said)
    yield Row(system="cot:" + ATTACK, question="q0", failure=ATTACK)


def test_the_page_fetches_nothing_runs_nothing_and_escapes_what_others_wrote():
    report = summarise(attacked())
    asked = Question(text=ATTACK, kind="open", id=f"q0{ATTACK}")
    text = page(report, {asked.id: Labelled(asked, ATTACK, 1)}, plots(report))
    tags = Tags(text).found
    names = {tag for tag, _ in tags}
    assert not names & {"script", "a", "link", "iframe", "object", "base", "form"}
    assert not [name for _, attributes in tags for name in attributes if name.startswith("on")]
    sources = [attributes["src"] for tag, attributes in tags if tag == "img"]
    assert len(sources) == 3
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not re.search(r"""(?:src|href|url\()\s*=?\s*['"]?\s*(?:https?:)?//""", text)
    policy = next(attributes["content"] for tag, attributes in tags if attributes.get("http-equiv"))
    assert policy.startswith("default-src 'none'")
    assert "&lt;script&gt;alert(1)" in text


def test_the_page_of_a_clean_report_names_no_address(report):
    text = page(report, {}, plots(report))
    assert "http://" not in text
    assert "https://" not in text


def test_a_long_list_of_cases_is_cut_and_says_so():
    rows = [
        Row(system=system, question=f"q{at}", correct=False, outcome=council("2", "a", "a", 1, "rounds", 1.0))
        for system in ("council:d", "round0:d")
        for at in range(201)
    ]
    assert "left wrong: 201, the first 200 shown" in page(summarise(rows), {}, {})


@pytest.mark.parametrize("rows", [[], [Row(system="cot:a", question="q", failure="gone")]])
def test_a_report_on_nothing_is_a_report(rows, tmp_path):
    report = write(summarise(rows), [], tmp_path)
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert report.comparisons == ()


def test_an_agent_named_like_a_formula_is_drawn():
    rows = [Row(system="cot:$x_{$", question="q", correct=True, outcome=outcome("1"))]
    assert plots(summarise(rows))["front"].startswith(PNG)


def test_a_system_a_thousand_times_dearer_is_drawn_on_a_logarithmic_axis():
    rows = [
        Row(system=f"cot:{at}", question="q", correct=True, outcome=outcome("1", tokens=(10**at, 0))) for at in range(5)
    ]
    assert plots(summarise(rows))["front"].startswith(PNG)


def test_a_report_on_sixty_systems_still_has_room_for_its_plots():
    def rows():
        for name in "abcdefghi":
            for at in range(4):
                said = council("1", "a", "ab", at, "rounds", 0.5)
                yield Row(system=f"council:{name}", question=f"q{at}", correct=at < 2, outcome=said)
                for kind in ("round0", "sc", "sc-tokens", "self-moa", "moa"):
                    found = outcome("1", tokens=(100 * at, 9), support=0.5)
                    yield Row(system=f"{kind}:{name}", question=f"q{at}", correct=at < 3, outcome=found)

    report = summarise(list(rows()))
    assert len(report.scores) == 54
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns where a legend leaves the axes no room
        drawn = plots(report)
    assert {name: picture.startswith(PNG) for name, picture in drawn.items()} == dict.fromkeys(drawn, True)
    assert set(drawn) == {"front", "calibration", "exchange"}


def test_questions_without_gold_are_counted_and_not_graded():
    report = summarise([Row(system="cot:a", question="q", correct=None, outcome=outcome("1"))])
    assert (report.scores[0].answered, report.scores[0].graded, report.scores[0].accuracy) == (1, 0, None)
    assert score_cells(report.scores[0])[1] == "unknown"
