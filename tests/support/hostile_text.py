"""Texts that a person, a damaged disk or an attacker could write where a grid, a site profile or an answer is read."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

SECONDS_PER_EXAMPLE = 10


def fuzz(examples: int) -> settings:
    """Settings for this many examples; `promptly` limits the time of an example instead of hypothesis."""
    return settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))


@contextmanager
def promptly(seconds: float = SECONDS_PER_EXAMPLE) -> Iterator[None]:
    """Fail a block that computes for longer than this, or takes twelve times as long: the machine may be busy."""

    def late(*_: object) -> None:
        raise AssertionError(f"not done in {seconds} s")

    timers = {signal.SIGPROF: (signal.ITIMER_PROF, seconds), signal.SIGALRM: (signal.ITIMER_REAL, 12 * seconds)}
    before = {number: signal.signal(number, late) for number in timers}
    for timer, limit in timers.values():
        signal.setitimer(timer, limit)
    try:
        yield
    finally:
        for number, (timer, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


BOMB = "&a [x, x]\n" + "".join(f"b{i}: &b{i} [*a, *a, *a]\n" for i in range(5))
SCALARS = st.sampled_from(
    ["1", "5", "0", "-1", "3", "1..3", "3..1", "0..99999", "1..999999999", "999999999..999999999", "1..1"]
    + ["1e999", "-1e999", "1e-3", ".nan", ".inf", "-.INF", "9" * 30, "9" * 5000, "1" + "0" * 400 + ".0", "0x1F", "1_0"]
    + ["off", "on", "never", "none", "~", "null", "true", "svhn", "conv1", "fc1", "lenet5", "code", "text", "x" * 5000]
    + [
        "'$(touch canary)'",
        "'`touch canary`'",
        "'; touch canary'",
        "'../../etc/passwd'",
        "'..'",
        "'.'",
        "'-rf'",
        "'a b'",
    ]
    + ['"a\\nb"', '"\\0"', '"\\e[31m"', '"\\u202e"', "'%s%n'", "'{0}'", "'\u00e9'", "'\U0001f600'", '"\\ud800"', "''"]
    + [
        "!!python/object/apply:os.system [touch canary]",
        "!!int 3",
        "!x 1",
        "&a 1",
        "*a",
        BOMB,
        "<<",
        "{a: 1}",
        "@",
        "%",
    ]
    + ["2147483647", "2147483648", "9223372036854775807", "9223372036854775808", "1.0", "-0.0", "5e-324", "1e308"]
)
SMALL = st.sampled_from(["1", "2", "5", "off", "1..3", "0.1", "conv1", "on", "never", "fc1", "text"])
VALUES = st.one_of(
    SMALL,
    SCALARS,
    st.lists(SMALL | SCALARS, max_size=4).map(lambda items: f"[{', '.join(items)}]"),
    st.integers(1, 40).map(lambda depth: "[" * depth + "]" * depth),
    st.integers(1, 30).map(lambda n: "{k: " * n + "1"),
)
# Pieces that are inserted somewhere in a text; most change its meaning.
PIECES = st.sampled_from(
    [
        *"\0\a\t\r\n \x1b\x7f\u0085\u2028\ufeff\ud800:[]{}&*!|>%@`'\"#-?,",
        "\n<<: *a\n",
        "\n---\n",
        "\n...\n",
        "\nseed: 1\n",
    ]
    + ["\n  k: 1\n", "%YAML 1.1\n", "!!python/name:os.system ", "\r\n", "\n\t", "\n\n", "1e999", "$(touch canary)"]
)


@st.composite
def damaged(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> bytes:
    """One of the texts as bytes: unchanged, with a piece inserted, cut off, or in a wrong encoding."""
    text = draw(texts)
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        place = draw(st.integers(0, len(text)))
        text = text[:place] + draw(PIECES) + text[place:]
    encoding = draw(st.sampled_from(["utf-8"] * 8 + ["utf-8-sig", "utf-16", "latin-1", "utf-32-le"]))
    content = text.encode(encoding, "replace" if encoding == "latin-1" else "surrogatepass")
    return content[: draw(st.integers(0, len(content)))] if draw(st.integers(0, 9)) == 0 else content


def lines_of(keys: list[str], *, indent: str = "", most: int = 4) -> st.SearchStrategy[str]:
    """Lines `key: value`."""
    line = st.tuples(st.sampled_from(keys), VALUES).map(lambda pair: f"{indent}{pair[0]}: {pair[1]}\n")
    return st.lists(line, max_size=most).map("".join)
