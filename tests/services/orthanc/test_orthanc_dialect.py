from __future__ import annotations

import json
import string
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dicomtls_cli.services.orthanc.dialect import Malformed, parse, substitute

# ---------------------------------------------------------------------- JSON

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip
SKIPPED = st.sampled_from(["", " ", "\n", "\t\r\n", '// a "{\n', "/* } \n // */", "/**/"])


@given(st.dictionaries(st.text(), VALUES, max_size=5), st.sampled_from([None, 1]), st.booleans())
def test_all_json_is_read_as_json(values: dict[str, Any], indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(values, indent=indent, ensure_ascii=ascii_only)
    assert parse(text).values == values


@given(st.dictionaries(st.text(), VALUES, max_size=4), st.data())
def test_comments_change_nothing(values: dict[str, Any], data: st.DataObject) -> None:
    def spread(value: Any) -> str:
        around = data.draw(SKIPPED)
        if isinstance(value, dict):
            inside = ",".join(
                f"{data.draw(SKIPPED)}{spread(key)}:{spread(one)}" for key, one in value.items()
            )
            return f"{around}{{{inside}{data.draw(SKIPPED)}}}{data.draw(SKIPPED)}"
        if isinstance(value, list):
            return f"{around}[{','.join(map(spread, value))}{data.draw(SKIPPED)}]{data.draw(SKIPPED)}"
        return f"{around}{json.dumps(value)}{data.draw(SKIPPED)}"

    assert parse(spread(values)).values == values


@given(st.text(alphabet='{}[]",:/*\\u0123dDeE+-.truefalsn \n'))
@example("{" * 5000)
@example('{"a":' * 5000)
@example('{"a":' + "[" * 5000)
@example("/*" * 5000)
@example('{"a":' + "9" * 5000)
@example('{"a":1e999999}')
@example('{"a":"\\ud800"}')
def test_anything_is_read_or_refused_with_its_place(text: str) -> None:
    refused = None
    try:
        document = parse(text)
        assert document.lines.keys() == document.values.keys()
    except Malformed as error:
        refused = error
    if refused is not None:
        lines = text.split("\n")
        assert 1 <= refused.line <= len(lines)
        assert 1 <= refused.column <= len(lines[refused.line - 1]) + 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a":1,}', 1),
        ('{"a":[1,2,],}', [1, 2]),
        ('{"a":012}', 12),
        ('{"a":+12}', 12),
        ('{"a":-1.5e3}', -1500.0),
        ('{"a":"x\ny\t"}', "x\ny\t"),
        ('{"a":1} {{ and so on', 1),
        ('\ufeff{"a":true}', True),
        ('{"a":0,"a":null}', None),
        ('{"a":"//x/*y*/"}', "//x/*y*/"),
        ('{"a":"\\ud83d\\ude00\\u00e9\\/"}', "\U0001f600é/"),
        ('{"a":123456789012345678901234567890}', 1.2345678901234568e29),
    ],
)
def test_liberties_of_jsoncpp(text: str, value: object) -> None:
    assert parse(text).values == {"a": value}


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("", 1, 1),
        ("[]", 1, 1),
        ('{"a":1\n "b":2}', 2, 2),
        ('{\n\n"a" 1}', 3, 5),
        ("{'a':1}", 1, 2),
        ("# a\n{}", 1, 1),
        ('{"a":NaN}', 1, 6),
        ('{"a":"b\\q"}', 1, 8),
        ('{"a":"b', 1, 6),
        ('{"a":,}', 1, 6),
        ('{"a":[1 2]}', 1, 9),
        ('{,"a":1}', 1, 2),
        ('{"a":1 /* ', 1, 8),
        ('{"a":1.5.1}', 1, 9),
        ('{"a":"\\ud800x"}', 1, 7),
    ],
)
def test_what_jsoncpp_refuses(text: str, line: int, column: int) -> None:
    with pytest.raises(Malformed) as caught:
        parse(text)
    assert (caught.value.line, caught.value.column) == (line, column), caught.value.why


def test_lines_repeated_and_alone() -> None:
    document = parse(
        '{\n "a": 1, // one\n "b": {\n  "c": 2\n },\n "a": "x"\n, "d": 1, "e": 2,\n "f": "${x}"}'
    )
    assert document.lines == {"a": 6, "b": 3, "d": 7, "e": 7, "f": 8}
    assert document.repeated == ("a",)
    assert document.alone == {"a"}


# ---------------------------------------------------------------------- variables


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("x${A}y", "x1y"),
        ("${NOPE}", ""),
        ("${NOPE:-4}", "4"),
        ("${A:-4}", "1"),
        ("${NOPE:-}", ""),
        ('${NOPE:-"a"}', "a"),
        ("${NOPE:-'a}'}", "a}"),
        ('${NOPE:-"a}', '${NOPE:-"a}'),
        ("${NOPE:-a'b}", "${NOPE:-a'b}"),
        ("${a:b}", "${a:b}"),
        ("${A", "${A"),
        ("$A $ {A} {A}", "$A $ {A} {A}"),
        ("${NOPE:-${A}}", "${A}"),
        ("// ${A}\n/*${A}*/", "// 1\n/*1*/"),
        ("${A:b ${A}", "${A:b 1"),
    ],
)
def test_variables(text: str, result: str) -> None:
    assert substitute(text, {"A": "1"}).text == result


def test_what_has_neither_value_nor_default_is_told() -> None:
    assert substitute("${B}${A}${C:-}${B}${D}", {"A": ""}).unset == ("B", "D")


@pytest.mark.parametrize("text", ["a\n ${}", "a\n ${:-x}"])
def test_a_variable_without_a_name_ends_orthanc(text: str) -> None:
    with pytest.raises(Malformed) as caught:
        substitute(text, {})
    assert (caught.value.line, caught.value.column) == (2, 2)


def by_expression(text: str, variables: dict[str, str]) -> str:
    """Substitute as Orthanc does, by the regular expression it has; quadratic, so only for short texts."""
    import re

    pattern = re.compile(
        r"\$\{([^:]*?)\}|\$\{([^:]*?):-([^'\"]*?)\}|\$\{([^:]*?):-\"([^\"]*?)\"\}|\$\{([^:]*?):-'([^']*?)'\}"
    )

    def value(found: re.Match[str]) -> str:
        if found[1]:
            return variables.get(found[1], "")
        for name, default in ((2, 3), (4, 5), (6, 7)):
            if found[name]:
                return variables.get(found[name], found[default])
        raise Malformed("no name")

    return pattern.sub(value, text)


@given(
    st.text(alphabet="${}:-'\"aA\n", max_size=60),
    st.dictionaries(st.sampled_from(["a", "A", "aA"]), st.text()),
)
@example("${${a:-\"}\"}${A:-'a'}", {})
def test_as_orthancs_expression_has_it(text: str, variables: dict[str, str]) -> None:
    def result(function: Any) -> str | None:
        try:
            found = function(text, variables)
        except Malformed:
            return None
        return found if isinstance(found, str) else found.text

    assert result(substitute) == result(by_expression)


@pytest.mark.parametrize(
    "piece", ["${", "${a", "${a:", "${a:-", '${a:-"', "${a:-'x", "${a:-\"'}", string.printable]
)
def test_much_of_anything_takes_no_time(piece: str) -> None:
    """Seconds, were it done by the expression."""
    text = piece * (1_000_000 // len(piece))
    assert substitute(text, {}).unset in ((), ("a",), ("|",)) or piece == string.printable
