"""What files say, and what they do not."""

from __future__ import annotations

import time
from typing import Any

import pytest

from execgraph.graphstore.document import Document
from execgraph.invalidation.formats import Format, format_of, parse
from execgraph.invalidation.source import Unreadable

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)

MERGES = "a0: &a0 {k: v}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 8)}]}}\n" for n in range(1, 9)
)


@pytest.mark.parametrize(
    ("suffix", "format"),
    [
        (".json", "json"),
        (".YAML", "yaml"),
        (".yml", "yaml"),
        (".toml", "toml"),
        (".md", "markdown"),
        (".txt", "text"),
        ("", "text"),
    ],
)
def test_a_suffix_stands_for_a_format(suffix: str, format: Format) -> None:  # noqa: A002
    assert format_of(suffix) == format


@pytest.mark.parametrize(
    ("format", "text", "document"),
    [
        ("json", '{"a": [1, 2.5, true, null]}', {"a": [1, 2.5, True, None]}),
        ("json", "\ufeff[]", []),
        ("yaml", "a: no\nb: 012\nc: yes\n", {"a": "no", "b": "012", "c": "yes"}),
        ("yaml", "day: 2026-11-23\n", {"day": "2026-11-23"}),
        ("yaml", "at: 2026-11-23T10:00:00+01:00", {"at": "2026-11-23T10:00:00+01:00"}),
        ("yaml", "a: !!set {x, y}", {"a": {"x": None, "y": None}}),
        ("yaml", "a: !!binary aGk=", {"a": "aGk="}),
        ("yaml", "x: &x {a: 1}\ny: {<<: *x, b: 2}", {"x": {"a": 1}, "y": {"a": 1, "b": 2}}),
        ("yaml", "---\na: 1\n---\n", {"a": 1}),
        ("yaml", "rules: [{op: =, to: ops}]", {"rules": [{"op": "=", "to": "ops"}]}),
        (
            "yaml",
            "a: 1_000\nb: 0b11\nc: 1:30\nd: ~\n",
            {"a": "1_000", "b": "0b11", "c": "1:30", "d": None},
        ),
        ("yaml", "mode: 0644\nlow: -012", {"mode": "0644", "low": "-012"}),
        (
            "yaml",
            "[1e3, 0x1F, 0o17, -7, +7, .5, !!float 1, !!str 1, ! 1]",
            [1000.0, 31, 15, -7, 7, 0.5, 1.0, "1", "1"],
        ),
        (
            "yaml",
            "a: &a {k: 1, l: 1}\nb: {<<: [*a, {l: 2, m: 2}], k: 3}",
            {"a": {"k": 1, "l": 1}, "b": {"k": 3, "l": 1, "m": 2}},
        ),
        ("yaml", "!!omap [b: 2, a: 1]", [{"b": 2}, {"a": 1}]),
        ("yaml", "%YAML 1.2\n---\n{1: a, true: b, ~: c}", {"1": "a", "true": "b", "null": "c"}),
        ("yaml", "a: |\n  x: [\nb: >-\n  y\n  z\n", {"a": "x: [\n", "b": "y z"}),
        ("yaml", "a: 1\n---\nb: 2\n", [{"a": 1}, {"b": 2}]),
        ("toml", "a = 1\n[b]\nc = 'd'\n", {"a": 1, "b": {"c": "d"}}),
        ("toml", "a = 2026-11-23\nb = 07:32:00", {"a": "2026-11-23", "b": "07:32:00"}),
        ("toml", "a = [1979-05-27T07:32:00Z]", {"a": ["1979-05-27T07:32:00+00:00"]}),
        ("text", "just\nthis\n", "just\nthis\n"),
        ("text", "", ""),
    ],
)
def test_documents(format: Format, text: str, document: Any) -> None:  # noqa: A002
    found = parse(text.encode(), format)
    assert found == document
    assert Document.of(found).whole == Document.of(document).whole


@pytest.mark.parametrize(
    ("format", "text", "said"),
    [
        ("json", "", "not JSON"),
        ("json", '{"a":', "not JSON"),
        ("json", '{"a": 1, "a": 2}', "the key 'a' is there twice"),
        ("json", '{"a": NaN}', "NaN is no number"),
        ("json", "null", "holds nothing"),
        ("json", "[" * 100_000, "too deeply"),
        ("json", "[" * 200 + "]" * 200, "100 levels"),
        ("yaml", "", "holds nothing"),
        ("yaml", "# a comment\n", "holds nothing"),
        ("yaml", "a: [1,\n", "not YAML"),
        ("yaml", "a: 1\nb: 2\na: 3\n", 'duplicate key "a", line 3'),
        ("yaml", "a: !!python/object:os.system {}", "could not determine a constructor"),
        ("yaml", "a: \t- b\n\tc", "not YAML"),
        ("yaml", "&a [*a]", "refer to themselves"),
        ("yaml", "? [1, 2]\n: x", "cannot be kept as JSON"),
        ("yaml", "1: x\n'1': y", "the same key in JSON"),
        ("yaml", "[" * 5000, "too deeply"),
        ("yaml", BOMB, "holds too much"),
        ("yaml", MERGES, "holds too much"),
        ("yaml", "{a: " * 5000, "too deeply"),
        ("yaml", "a: *b", "an alias of nothing"),
        ("yaml", "a: {<<: 1}", "merges what is no mapping"),
        ("yaml", "a: !!int x", "is none, line 1"),
        ("yaml", "a: 1e999", "too large"),
        ("yaml", "a: " + "9" * 5000, "not YAML"),
        ("json", '{"a": 1e999}', "too large"),
        ("json", "{" + '"k": 1, ' * 200_000 + '"k": 1}', "the key 'k' is there twice"),
        ("toml", "a." * 60_000 + "a = 1", "too deeply"),
        ("toml", "a = ", "not TOML"),
        ("toml", "a = 1\na = 2", "not TOML"),
    ],
)
def test_what_is_no_document(format: Format, text: str, said: str) -> None:  # noqa: A002
    began = time.monotonic()
    with pytest.raises(Unreadable) as error:
        parse(text.encode(), format)
    assert said in str(error.value)
    assert time.monotonic() - began < 30


def test_long_text_that_aliases_multiply_is_too_much() -> None:
    text = f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 2000)}]"
    with pytest.raises(Unreadable, match="too much"):
        parse(text.encode(), "yaml")


@pytest.mark.parametrize("format", ["json", "yaml", "toml", "text", "markdown"])
def test_what_is_not_utf8_is_unreadable(format: Format) -> None:  # noqa: A002
    with pytest.raises(Unreadable, match="not UTF-8 at byte 2"):
        parse(b"a:\xff", format)


def test_what_is_refused_is_not_quoted() -> None:
    with pytest.raises(Unreadable) as error:
        parse(b"token: one\ntoken: s3cret\n", "yaml")
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    ("format", "one", "two"),
    [
        ("yaml", "mode: 0644", "mode: 644"),
        ("yaml", "!!omap [a: 1, b: 2]", "!!omap [b: 2, a: 1]"),
        ("yaml", "at: 12:30", "at: 750"),
        ("yaml", "on: 1_000", "on: 1000"),
        ("markdown", "# [Rules](http://a)\nx", "# [Rules](http://b)\nx"),
        ("markdown", "# ![Rules](a.png)\nx", "# Rules\nx"),
        ("markdown", "# A\n1\n# A\n2", "# A\n1\n# A (2)\n2"),
        ("markdown", "#\n1", "# \\-\n1"),
    ],
)
def test_what_others_read_differently_counts_as_two(format: Format, one: str, two: str) -> None:  # noqa: A002
    first, second = (Document.of(parse(it.encode(), format)) for it in (one, two))
    assert first.whole != second.whole


@pytest.mark.parametrize(
    ("format", "one", "two"),
    [
        ("yaml", "allow: off", "allow: 'off'"),
        ("yaml", "1: a", "'1': a"),
        ("yaml", "a: 1\n---\nb: 2", "- a: 1\n- b: 2"),
        ("yaml", "day: 2026-11-23", "day: '2026-11-23'"),
        ("toml", "day = 2026-11-23", "day = '2026-11-23'"),
        ("json", "[1.0]", "[1]"),
    ],
)
def test_what_the_page_says_counts_as_one_is_two_as_text(
    format: Format,  # noqa: A002
    one: str,
    two: str,
) -> None:
    as_data, as_text = (
        [Document.of(parse(it.encode(), kind)).whole for it in (one, two)]
        for kind in (format, "text")
    )
    assert as_data[0] == as_data[1]
    assert as_text[0] != as_text[1]


def test_a_name_that_many_headings_have_takes_no_time() -> None:
    found: Any = parse(b"# A\nx\n" * 20_000, "markdown")
    assert len(found) == 20_000
    assert found["A (20000)"] == {"": "x"}


# Markdown -----------------------------------------------------------------------------------

POLICY = """\
---
owner: support
---
Read this first.

# Policy of *Acme*

All staff.

Refunds
-------

Within 30 days.

```
# no heading
```

### Partial ###

Half.

## Refunds
Again.

> ## Quoted

- # Listed

##
"""


def test_markdown_is_an_object_of_its_sections() -> None:
    assert parse(POLICY.replace("\n", "\r\n").encode(), "markdown") == {
        "": "---\nowner: support\n---\nRead this first.",
        "Policy of Acme": {
            "": "All staff.",
            "Refunds": {
                "": "Within 30 days.\n\n```\n# no heading\n```",
                "Partial": {"": "Half."},
            },
            "Refunds (2)": {"": "Again.\n\n> ## Quoted\n\n- # Listed"},
            "-": {},
        },
    }


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_an_empty_markdown_file_has_no_sections(text: str) -> None:
    assert parse(text.encode(), "markdown") == {}


@pytest.mark.parametrize(
    ("selector", "edited", "same"),
    [
        ("$..['Partial']", ("Within 30", "Within 14"), True),
        ("$..['Partial']", ("Half.", "A third."), False),
        ("$['Policy of Acme']['Refunds']", ("Half.", "A third."), False),
        ("$['Policy of Acme']['Refunds']['']", ("Half.", "A third."), True),
        ("$['Policy of Acme']['Refunds']", ("All staff.", "Everybody."), True),
        ("$['Policy of Acme']['Refunds']", ("All staff.", "All staff.\n\n## New\n\nx"), True),
    ],
)
def test_a_section_is_a_facet(selector: str, edited: tuple[str, str], same: bool) -> None:  # noqa: FBT001
    before = Document.of(parse(POLICY.encode(), "markdown"))
    after = Document.of(parse(POLICY.replace(*edited).encode(), "markdown"))
    assert before.whole != after.whole
    assert (before.fingerprint(selector) == after.fingerprint(selector)) is same
