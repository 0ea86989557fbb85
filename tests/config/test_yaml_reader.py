"""Strict YAML: every scalar has its plain meaning, and every problem is one line with its place."""

from __future__ import annotations

import math
import os
import string
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dc_hpc.config.yaml_reader import Document, did_you_mean, parse_scalar, parse_yaml, read_yaml, shown
from dc_hpc.errors import InputError

# By hand from YAML 1.2's core schema, with the forms that a person types.
SCALARS = {
    # floats
    "1e-3": 0.001, "1.": 1.0, ".5": 0.5, "1E5": 100000.0, "-3.5e+2": -350.0, "+.5": 0.5, "1.e5": 100000.0,
    "0.0": 0.0, "0e5": 0.0, "0e-999": 0.0, "1.7976931348623157e308": sys.float_info.max, "5e-324": 5e-324,
    # integers
    "0": 0, "-0": 0, "+5": 5, "42": 42, "9223372036854775807": 2**63 - 1, "-9223372036854775808": -(2**63),
    # words
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
    "null": None, "Null": None, "NULL": None, "~": None, "": None, " ": None,
    # what only looks like something else
    "on": "on", "off": "off", "Off": "Off", "yes": "yes", "no": "no", "y": "y", "n": "n", "tRUE": "tRUE",
    "0x1F": "0x1F", "0o17": "0o17", "0b1": "0b1", "017": "017", "007": "007", "-01": "-01", "00": "00",
    "007.5": "007.5", "00e5": "00e5", "12:30": "12:30", "1:30:00": "1:30:00", "1_000": "1_000",
    "1,000": "1,000", "2024-01-31": "2024-01-31", "2024-01-31 10:00:00": "2024-01-31 10:00:00",
    "1..100": "1..100", ".": ".",
    "..": "..", "+": "+", "e5": "e5", "1e": "1e", "1e5.5": "1e5.5", "nan": "nan", "inf": "inf",
    "١٢": "١٢", "1 2": "1 2", "=": "=", "svhn": "svhn", "a:b": "a:b", "a#b": "a#b",
    # quoted: always strings
    "'5'": "5", '"1e-3"': "1e-3", "'null'": "null", '"true"': "true", "''": "", '".inf"': ".inf",
    # lists
    "[5, 20]": [5, 20], "[1e-3, off, '3', ~]": [0.001, "off", "3", None], "[]": [], "[[1], [2]]": [[1], [2]],
}  # fmt: skip


def equal(one: object, other: object) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return type(one) is type(other) and one == other


@pytest.mark.parametrize(("text", "value"), SCALARS.items(), ids=[repr(text) for text in SCALARS])
def test_scalars(text: str, value: object) -> None:
    assert equal(parse_scalar(text), value)
    assert equal(parse_yaml(f"key: {text}\n", "g").data["key"], value)
    assert equal(parse_yaml(f"key:\n  - {text}\n", "g").data["key"], [value])


def test_a_document_with_its_lines() -> None:
    document = parse_yaml(
        "# Figure 4\n"
        "base: svhn\n"
        "sweep:\n"
        "  k: [10, 50,\n"
        "    100]\n"
        "  seed: 1..5\n"
        "list:\n"
        "- a\n"
        "-\n"
        "  lr: 1e-3\n"
        "setup: |\n"
        "  module load cuda\n"
        "  true\n",
        "jobs/a.yaml",
    )
    assert document.data == {
        "base": "svhn",
        "sweep": {"k": [10, 50, 100], "seed": "1..5"},
        "list": ["a", {"lr": 0.001}],
        "setup": "module load cuda\ntrue\n",
    }
    assert document.name == "jobs/a.yaml"
    lines = {
        (): 2,
        ("base",): 2,
        ("sweep",): 3,
        ("sweep", "k"): 4,
        ("sweep", "k", 0): 4,
        ("sweep", "k", 2): 5,
        ("sweep", "seed"): 6,
        ("list",): 7,
        ("list", 0): 8,
        ("list", 1, "lr"): 10,
        ("setup",): 11,
    }
    assert {path: document.line(path) for path in lines} == lines
    assert document.line(("sweep", "momentum")) == 3  # not there: where it would be
    with pytest.raises(AttributeError):
        document.data = {}


# text, line, words of the message
REFUSED = {
    "empty": ("", 1, "not a mapping.*key: value"),
    "only a comment": ("# nothing\n", 1, "not a mapping"),
    "list": ("- a\n", 1, "not a mapping"),
    "scalar": ("\n\nx\n", 3, "not a mapping"),
    "duplicate": ("a: 1\nb: 2\na: 3\n", 3, '"a" is here again, first on line 1'),
    "inner duplicate": ("a:\n  b: 1\n  b: 1\n", 3, '"b" is here again'),
    "flow duplicate": ("a: {b: 1,\n  b: 1}\n", 2, '"b" is here again'),
    "quoted duplicate": ("a: 1\n'a': 1\n", 2, '"a" is here again'),
    "anchor": ("a: 1\nb: &x 1\n", 2, "anchors .* not allowed"),
    "mapping anchor": ("a: 1\nb: &x\n  c: 1\n", 2, "anchors .* not allowed"),
    "alias": ("a: 1\nb: *x\n", 2, "aliases .* not allowed"),
    "key alias": ("a: 1\n*x : 2\n", 2, "aliases .* not allowed"),
    "key anchor": ("a: 1\n&x b: 2\n", 2, "anchors .* not allowed"),
    "tag": ("a: 1\nb: !!int '5'\n", 2, "tags like .*int.* not allowed"),
    "python tag": ("a: !!python/object/apply:os.system [ls]\n", 1, "tags"),
    "local tag": ("a:\n- !x 1\n", 2, "tags"),
    "bare tag": ("a: ! 1\n", 1, "tags"),
    "list tag": ("a: !!set {}\n", 1, "tags"),
    "merge key": ("a: 1\n<<: {b: 1}\n", 2, "merge keys .* not allowed"),
    "integer key": ("a: 1\n1: b\n", 2, "key must be a string"),
    "boolean key": ("true: b\n", 1, "key must be a string"),
    "null key": ("a: 1\n~: b\n", 2, "key must be a string"),
    "empty key": ("a: 1\n?\n: b\n", 2, "key must be a string"),
    "list key": ("? [a]\n: b\n", 1, "key must be a string"),
    "escape in key": ('a: 1\n"b\\e[31m": 1\n', 2, "do not print"),
    "line end in key": ('"b\\nc": 1\n', 1, "do not print"),
    "infinity": ("a: 1\nb: [1, -.INF]\n", 2, '"-.INF" is not allowed'),
    "not a number": ("a: .NaN\n", 1, '".NaN" is not allowed'),
    "overflow": ("a: 1\nb: 1e999\n", 2, "range of floats"),
    "underflow": ("a: 1e-999\n", 1, "range of floats"),
    "large integer": ("a: 1\nb: 9223372036854775808\n", 2, "64 bits"),
    "small integer": ("a: -9223372036854775809\n", 1, "64 bits"),
    "giant integer": ("a: 1\nb: " + "9" * 100_000, 2, "64 bits"),
    "giant float": ("a: " + "9" * 100_000 + ".0", 1, "range of floats"),
    "second document": ("a: 1\n---\nb: 1\n", 2, "second document"),
    "depth": ("a: 1\nb: " + "[" * 20 + "]" * 20, 2, "deeper than the 20 levels"),
    "endless depth": ("a: " + "[" * 1_000_000, 1, "deeper than the 20 levels"),
    "endless mappings": ("{a: " * 200_000, 1, "deeper than the 20 levels"),
    "endless items": ("a:\n" + "- " * 500_000, 2, "deeper than the 20 levels"),
    "tab": ("a:\n\tb: 1\n", 2, "not YAML.*indent with spaces"),
    "open bracket": ("a: 1\nb: [1,\n", 3, "not YAML.*close brackets"),
    "open quote": ("a: 1\nb: 'x\n", 3, "not YAML"),
    "two colons": ("a: 1\nb: c: d\n", 2, "not YAML"),
    "at sign": ("a: 1\nb: @x\n", 2, "not YAML.*quote"),
    "bad indent": ("a:\n    b: 1\n  c: 1\n", 3, "not YAML"),
    "unknown escape": ('a: "\\q"\n', 1, "not YAML"),
    "impossible escape": ('a: 1\nb: "\\UFFFFFFFF"\n', 2, "impossible number"),
    "giant version": ("%YAML 1." + "9" * 5000 + "\n---\na: 1\n", 1, "impossible number"),
    "NUL": ("a: 1\nb: \0\n", 2, "control character"),
    "bell": ("a: 1\n# \a\n", 2, "control character"),
    "surrogate": ("a: 1\nb: \ud800\n", 2, "control character"),
    "escaped NUL": ('a: 1\nb: "\\0"\n', 2, "do not print"),
    "no-break space": ("a: 1\nb: x\u00a0y\n", 2, "do not print"),
    "bidirectional": ("a: x\u202ey\n", 1, "do not print"),
    "size": ("a: 1\n" + "#" * (1 << 20), None, "larger than the 1048576 bytes allowed"),
}


def one_line(error: InputError) -> str:
    message = str(error)
    assert message.isprintable()
    assert len(message) < 500
    return message


@pytest.mark.parametrize("kind", REFUSED)
def test_refusals_name_the_line(kind: str) -> None:
    text, line, words = REFUSED[kind]
    started = time.process_time()
    with pytest.raises(InputError, match=words) as caught:
        parse_yaml(text, "jobs/a.yaml")
    assert one_line(caught.value).startswith("jobs/a.yaml:" if line is None else f"jobs/a.yaml:{line}: ")
    assert time.process_time() - started < 5.0


def test_an_alias_bomb_costs_nothing() -> None:
    bomb = "a0: &a0 [x]\n" + "".join(f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]\n" for i in range(9))
    assert len(bomb) < 600
    with pytest.raises(InputError, match=r"^b:1: anchors"):
        parse_yaml(bomb, "b")


def test_depth_20_is_allowed() -> None:
    value = parse_yaml("a: " + "[" * 19 + "]" * 19, "g").data["a"]
    for _ in range(18):
        (value,) = value
    assert value == []


NOT_ONE_VALUE = ["a: 1", "- 1", "-", "{a: 1}", "#5", "5 # five", "5\n---\n6", "5\n...", "[1", "[1]]", "[1] # one"] + [
    "*a",
    "&a 1",
    "!t 1",
    ".nan",
    "1e999",
    "9" * 5000,
    "@x",
    "'x",
    "\0",
]


@pytest.mark.parametrize("text", NOT_ONE_VALUE)
def test_parse_scalar_refuses(text: str) -> None:
    with pytest.raises(InputError, match=r'^value ".*": .*') as caught:
        parse_scalar(text)
    assert one_line(caught.value)


# ---- files


def test_read_yaml(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes("\ufeffname: é\r\nlr: 1e-3\r\n".encode())
    document = read_yaml(path)
    assert isinstance(document, Document)
    assert (document.data, document.name, document.line(("lr",))) == (
        {"name": "é", "lr": 0.001},
        str(path),
        2,
    )
    path.write_text("a: 1\na: 2\n")
    with pytest.raises(InputError) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(f"{path}:2: key ")


@pytest.mark.parametrize(
    ("content", "line"),
    [(b"a: 1\nb: \xff\n", 2), ("a: é\n".encode("latin-1"), 1), ("a: 1".encode("utf-16"), 1)],
)
def test_other_encodings_are_refused(tmp_path: Path, content: bytes, line: int) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match="UTF-8") as caught:
        read_yaml(path)
    assert one_line(caught.value).startswith(f"{path}:{line}: ")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "svhn_k.yaml").write_text("a: 1")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with open(tmp_path / "big.yaml", "wb") as stream:
        stream.truncate(1 << 40)
    cases = {
        "shvn_k.yaml": 'no such file.*did you mean "svhn_k.yaml"',
        "svhn_q.yml": 'no such file.*did you mean "svhn_k.yaml"',
        "none/a.yaml": "no such file",
        "svhn_k.yaml/b": "cannot be read",
        "": "a folder",
        "pipe": "not a regular file",
        "loop": "cannot be read",
        "big.yaml": "larger than",
        "a\0b": "cannot be read",
        "x" * 5000: "cannot be read",
        "a\nb\x1b.yaml": "no such file",
    }
    for name, words in cases.items():
        with pytest.raises(InputError, match=words) as caught:
            read_yaml(tmp_path / name)
        assert one_line(caught.value).startswith(str(tmp_path)), name


def test_a_name_that_has_only_its_ending_in_common_is_not_suggested(tmp_path: Path) -> None:
    (tmp_path / "gpu_gres.yaml").write_text("gpus: 1")
    with pytest.raises(InputError, match="no such file; give the path of a YAML file$"):
        read_yaml(tmp_path / "probed.yaml")


def test_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)  # not chmod: root may read everything
    with pytest.raises(InputError, match=r"cannot be read \(Permission denied\); check"):
        read_yaml(tmp_path / "a.yaml")


def test_names_and_texts_in_messages_are_short_and_printable() -> None:
    with pytest.raises(InputError) as caught:
        parse_yaml("a: 1\na: 2\n", "g\x1b\n" + "n" * 1000)
    assert one_line(caught.value).startswith("g??nnn")
    assert shown("x" * 40) == f'"{"x" * 40}"'
    assert shown("x" * 1_000_000) == f'"{"x" * 37}..."'


# ---- suggestions for misspelt words


@pytest.mark.parametrize(
    ("word", "allowed", "answer"),
    [
        ("batchsize", ["k", "batch_size"], '; did you mean "batch_size"?'),
        ("K", ["k", "seed"], '; did you mean "k"?'),
        ("seeds", iter(["k", "seed"]), '; did you mean "seed"?'),
        ("zzz", ["k", "seed"], ""),
        ("", ["k"], ""),
        (None, ["none"], '; did you mean "none"?'),
        (3, ["k"], ""),
        ("k", [], ""),
        ("x" * 1_000_000, ["xx", "x" * 64], f'; did you mean "{"x" * 64}"?'),
    ],
)
def test_did_you_mean(word: object, allowed: list[str], answer: str) -> None:
    assert did_you_mean(word, allowed) == answer


# ---- fuzz: a Document or an InputError, and nothing else

PIECES = st.sampled_from(
    [*"abk:-?,[]{}#&*!|>'\"%@`~ \n\t.0159eE+_=<\\\u0085\u2028\ufeff", ": ", "- ", "\n  ", "\n- ", "a: "]
    + ["---\n", "...\n", "%YAML 1.1\n", "%TAG ! x\n", "&a ", "*a ", "!!str ", "<<: ", "? ", "\\x00", "\\U"]
    + [".inf", "1e999", "9" * 30, '"', "|2\n", ">-\n", "\r\n", "é"]
)


def fuzz(examples: int) -> settings:
    return settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))


def survives(text: str) -> None:
    for parse in (lambda: parse_yaml(text, "fuzz").data, lambda: parse_scalar(text)):
        try:
            check_plain(parse())
        except InputError as error:
            one_line(error)


def check_plain(data: object) -> None:
    if isinstance(data, dict):
        assert all(type(key) is str for key in data)
        data = list(data.values())
    if isinstance(data, list):
        for each in data:
            check_plain(each)
    else:
        assert data is None or type(data) in (str, int, float, bool)
        assert type(data) is not float or math.isfinite(data)
        assert type(data) is not int or -(2**63) <= data < 2**63


@fuzz(7500)
@given(st.lists(PIECES, max_size=25).map("".join) | st.text(max_size=30))
@example("%TAG ! tag:%FF\n---\na: !b 1")
@example('"\\U0011FFFF": 1')
def test_fuzz_of_text(text: str) -> None:
    survives(text)


WORDS = st.text(string.ascii_letters + "_", min_size=1, max_size=6).filter(
    lambda word: word.lower() not in ("null", "true", "false")
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(string.printable, max_size=12)
    | WORDS
)
NESTED = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)


def printable(data: object) -> bool:
    if isinstance(data, dict):
        return all(map(printable, data.values()))
    if isinstance(data, list):
        return all(map(printable, data))
    return not isinstance(data, str) or data.replace("\n", "").replace("\t", "").isprintable()


class PlainDumper(yaml.SafeDumper):
    """Quotes every string, since PyYAML thinks that 1e-3 needs no quotes, and makes no aliases."""

    def ignore_aliases(self, data: object) -> bool:
        return True


PlainDumper.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))


@fuzz(2500)
@given(st.dictionaries(WORDS, NESTED, max_size=4), st.booleans(), st.integers(0, 10_000), PIECES)
def test_fuzz_of_nested_documents(data: dict[str, object], flow: bool, place: int, piece: str) -> None:
    text = yaml.dump(data, Dumper=PlainDumper, default_flow_style=flow, allow_unicode=True)
    if printable(data):
        assert equal_nested(parse_yaml(text, "fuzz").data, data)
    survives(text[: place % len(text)] + piece + text[place % len(text) :])


def equal_nested(one: object, other: object) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal_nested(one[key], other[key]) for key in other)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equal_nested, one, other))
    return type(one) is type(other) and one == other


def test_importing_the_reader_loads_no_array_library() -> None:
    heavy = "import sys, dc_hpc.config.yaml_reader; print({'torch', 'numpy', 'pydantic'} & {*sys.modules})"
    command, root = [sys.executable, "-c", heavy], Path(__file__).parents[2]
    ran = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == "set()\n"
