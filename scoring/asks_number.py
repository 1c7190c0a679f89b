"""Whether a question asks for a number: only on clear evidence, since a wrong guess makes every answer unreadable."""

from __future__ import annotations

import re

_COUNT = re.compile(
    # "how large language models work" and "how fast food is made" ask for no size: a verb or an article must follow.
    r"""\bhow\ (?:many|much)\b
    |\bhow\ (?:old|far|long|tall|big|large|deep|wide|high|fast|heavy)\b
      (?=\W*(?:$|(?:is|are|was|were|will|would|can|could|did|do|does|has|have|had|should|must|in|apart|away|off|outside
        |from|until|a|an|the|it|he|she|they|ago|ahead|above|below)\b))
    |多少|(?<![这那好前后近过没星期周])几(?![乎何率])(?=[^,。!]{0,40}\?)|[是于有]几\W*$""",
    re.VERBOSE | re.IGNORECASE,
)
_EXPLAINS = re.compile(
    r"""(?:(?:please|can|could|would|will|you|we|help\ me|just|to)\b\W*)*
      (?:explain|describe|discuss|summari[sz]e|write|outline|list|why
        |how\ (?:do|does|did|can|could|should|would|to|is|are))\b
    |.*(?:解释|说明|介绍|如何|怎么|怎样|为什么|为何|区别|什么是|(?:给|列|举|写|说|推荐|提供|谈)[^?]{0,6}几)""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_WORD = (
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen"
    "|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|thousand|million"
)
_ARITHMETIC = re.compile(
    rf"""(?:^|\b(?:what's|what\ is|calculate|compute|evaluate|solve|simplify|result\ of|value\ of)\b)[^\w\n]*
      (?:[-+*/×÷^().,%$=0-9\s]{{0,80}}[0-9)]\s?[-+*/×÷^x]\s?[-($]{{0,4}}[0-9][-+*/×÷^().,%$=0-9\s]{{0,80}}\W{{0,4}}$
      |(?:[0-9][0-9.,/]*|(?:{_WORD})(?:[-\ ](?:{_WORD}))*)\s?
        (?:(?:plus|minus|times|over|divided|multiplied|squared|cubed|mod|modulo|factorial|percent\ of|to\ the\ power)\b
          |%\ of\b|!|of\ [$]?[0-9])
      |(?:the\ )?(?:half|(?:square|cube)\ root)\ of\ (?:[0-9]|(?:{_WORD})\b)
      |(?:the\ )?(?:sum|product|average|mean)\ of\ (?:[0-9][0-9.]*|(?:{_WORD}))(?:,|\ and)\ (?:[0-9]|(?:{_WORD})\b))""",
    re.VERBOSE | re.IGNORECASE,
)
_QUANTITY = (
    r"(?:numbers?|sum|total|difference|product|average|mean|percent|percentage|price|cost|value|area|volume|perimeter"
    r"|ratio|probability|chance|remainder|ages?|speed|profit|amount|distance|fraction|score|length|width|height|depth"
    r"|weights?|thickness|capacity|temperature|bill|interest|tip|discount)\b(?!-|\ [0-9])"
)
_ASKED = re.compile(
    rf"""\b(?:what|which)\b.{{0,60}}?\b(?!difference\ between){_QUANTITY}
    |\bwhat\ (?:will|would|did|does)\b.{{0,60}}?\b(?:cost|weigh|score|read)\b
    |\b(?:find|determine|state)\ (?:out\ )?(?:the|its|their|his|her|what)\ (?:[\w']+\ ){{0,2}}?{_QUANTITY}
    |\b(?:calculate|compute)\b|计算(?!机)|等于|(?<![需要请追寻恳征谋祈])求(?![助职])""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_DIFFERENCE = re.compile(r"\bdifference between\b(?P<numbers> [-$]?[0-9])?", re.IGNORECASE)
# Not the figures of names (Python 3, HTTP/2, 5G) and of years (in 1984).
_FIGURE = re.compile(
    r"""(?<![A-Za-z0-9_/.-])(?<![0-9],)(?![12][0-9]{3}(?![0-9.]))[0-9][0-9,.]*(?![0-9]*(?:[A-Zx]\b|\())
    |(?<![A-Za-z0-9_/.-])(?<!\bin\ )(?<!\bof\ )(?<!\bby\ )(?<!\bsince\ )(?<!\bfrom\ )(?<!\bbefore\ )(?<!\bafter\ )
      (?<!\buntil\ )[12][0-9]{3}(?![0-9])""",
    re.VERBOSE,
)
_NAME = re.compile(
    r"\b(?:\w*[A-Z]\w*|chapter|section|type|level|step|version|part|phase|page|question|exercise|grade|room|number) $"
)
_FIRST_WORD = re.compile(r"(?:^|[.!?:]\s)\w+ $")
_LONGEST_NAME = 40
_STORY_WORDS = re.compile(rf"\b(?:{_WORD}|half|twice|third|quarter|double|dozen)\b", re.IGNORECASE)


def asks_number(story: str, asked: str) -> bool:
    """Whether `asked`, the last sentence of a question, asks for a number, given what came before it.

    Evidence is "how many" and its like; arithmetic; or a quantity (a sum, a price, an area) that is asked for where
    figures are told.
    """
    if _EXPLAINS.match(asked):
        return False
    if _COUNT.search(asked) or _ARITHMETIC.search(asked):
        return True
    told = _has_figures(story) or _STORY_WORDS.search(story) is not None
    if difference := _DIFFERENCE.search(asked):
        return told or difference["numbers"] is not None
    return _ASKED.search(asked) is not None and (told or _has_figures(asked))


def _has_figures(text: str) -> bool:
    return any(not _is_named(text, figure.start()) for figure in _FIGURE.finditer(text))


def _is_named(text: str, at: int) -> bool:
    """Whether the word before makes it a name: "chapter 3", or a capital where no sentence begins."""
    near = max(0, at - _LONGEST_NAME)
    return _NAME.search(text, near, at) is not None and _FIRST_WORD.search(text, near, at) is None
