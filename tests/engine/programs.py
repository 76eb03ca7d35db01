"""Small programs with a pure tool ``t``: what it depends on, and how that is changed."""

from __future__ import annotations

__all__ = ["PROGRAMS"]

#: What is changed: the program, a text in it, and what takes its place.
PROGRAMS: dict[str, tuple[str, str, str]] = {
    "a global": (
        """
        RATE = 2
        def t(n: int) -> int:
            'T.'
            return n * RATE
        """,
        "RATE = 2",
        "RATE = 7",
    ),
    "a global declared below": (
        """
        def t(n: int) -> int:
            'T.'
            return n * RATE
        RATE = 2
        """,
        "RATE = 2",
        "RATE = 7",
    ),
    "a table": (
        """
        RATES = {'eu': [1, 2]}
        def t(n: int) -> int:
            'T.'
            return RATES['eu'][0] * n
        """,
        "[1, 2]",
        "[7, 2]",
    ),
    "a helper": (
        """
        def h(n): return n + 1
        def t(n: int) -> int:
            'T.'
            return h(n)
        """,
        "n + 1",
        "n + 2",
    ),
    "a constant of a helper": (
        """
        def h(n): return n + 1
        def t(n: int) -> int:
            'T.'
            return h(n)
        """,
        "n + 1",
        "n + 1000",
    ),
    "a helper of a helper": (
        """
        def g(n): return n + K
        K = 1
        def h(n): return g(n)
        def t(n: int) -> int:
            'T.'
            return h(n)
        """,
        "K = 1",
        "K = 2",
    ),
    "a helper used by an inner function": (
        """
        def h(n): return n + 1
        def t(n: int) -> int:
            'T.'
            return sum(h(i) for i in [n])
        """,
        "n + 1",
        "n + 2",
    ),
    "a lambda": (
        """
        h = lambda n: n + 1
        def t(n: int) -> int:
            'T.'
            return h(n)
        """,
        "n + 1",
        "n + 2",
    ),
    "a closure": (
        """
        def made(k):
            def t(n: int) -> int:
                'T.'
                return n * k
            return t
        t = made(2)
        """,
        "made(2)",
        "made(7)",
    ),
    "a default of a helper": (
        """
        K = 1
        def h(n, k=K): return n + k
        def t(n: int) -> int:
            'T.'
            return h(n)
        """,
        "K = 1",
        "K = 2",
    ),
    "a default by name of a helper": (
        """
        K = 1
        def h(n, *, k=K): return n + k
        def t(n: int) -> int:
            'T.'
            return h(n)
        """,
        "K = 1",
        "K = 2",
    ),
    "a decorator with wraps": (
        """
        import functools
        def by(k):
            def around(f):
                @functools.wraps(f)
                def inner(n):
                    return f(n) * k
                return inner
            return around
        @by(2)
        def t(n: int) -> int:
            'T.'
            return n
        """,
        "@by(2)",
        "@by(7)",
    ),
    "what a decorator does": (
        """
        import functools
        def by(f):
            @functools.wraps(f)
            def inner(n):
                return f(n) * 2
            return inner
        @by
        def t(n: int) -> int:
            'T.'
            return n
        """,
        "f(n) * 2",
        "f(n) * 7",
    ),
    "what is behind a decorator without wraps": (
        """
        def by(f):
            def inner(n: int) -> int:
                'T.'
                return f(n)
            return inner
        @by
        def t(n):
            return n * 2
        """,
        "n * 2",
        "n * 7",
    ),
    "what a cache wraps": (
        """
        import functools
        @functools.lru_cache
        def h(n): return n + 1
        def t(n: int) -> int:
            'T.'
            return h(n)
        """,
        "n + 1",
        "n + 2",
    ),
    "a partial": (
        """
        import functools
        def g(k, n): return k * n
        h = functools.partial(g, 2)
        def t(n: int) -> int:
            'T.'
            return h(n)
        """,
        "partial(g, 2)",
        "partial(g, 7)",
    ),
    "the object it is bound to": (
        """
        class Tariff:
            def __init__(self, k): self.k = k
            def t(self, n: int) -> int:
                'T.'
                return n * self.k
        t = Tariff(2).t
        """,
        "Tariff(2)",
        "Tariff(7)",
    ),
    "an object in the object it is bound to": (
        """
        class Rate:
            __slots__ = ('k',)
            def __init__(self, k): self.k = k
        class Tariff:
            def __init__(self, k): self.rate = Rate(k)
            def t(self, n: int) -> int:
                'T.'
                return n * self.rate.k
        t = Tariff(2).t
        """,
        "Tariff(2)",
        "Tariff(7)",
    ),
    "another method of its class": (
        """
        class Tariff:
            def k(self): return 2
            def t(self, n: int) -> int:
                'T.'
                return n * self.k()
        t = Tariff().t
        """,
        "return 2",
        "return 7",
    ),
    "a property of a base class": (
        """
        class Base:
            @property
            def k(self): return 2
        class Tariff(Base):
            def t(self, n: int) -> int:
                'T.'
                return n * self.k
        t = Tariff().t
        """,
        "return 2",
        "return 7",
    ),
    "a class attribute": (
        """
        class Config:
            RATE = 2
        def t(n: int) -> int:
            'T.'
            return n * Config.RATE
        """,
        "RATE = 2",
        "RATE = 7",
    ),
    "a static method": (
        """
        class Rates:
            @staticmethod
            def of(n): return n * 2
        def t(n: int) -> int:
            'T.'
            return Rates.of(n)
        """,
        "n * 2",
        "n * 7",
    ),
    "an attribute of an object": (
        """
        class Settings: pass
        settings = Settings()
        settings.rate = 2
        def t(n: int) -> int:
            'T.'
            return n * settings.rate
        """,
        "rate = 2",
        "rate = 7",
    ),
    "the value of an enumeration": (
        """
        from enum import Enum
        class Rate(Enum):
            EU = 2
        def t(n: int) -> int:
            'T.'
            return n * Rate.EU.value
        """,
        "EU = 2",
        "EU = 7",
    ),
    "a number of another kind": (
        """
        from decimal import Decimal
        RATE = Decimal('2')
        def t(n: int) -> int:
            'T.'
            return int(n * RATE)
        """,
        "'2'",
        "'7'",
    ),
    "a pattern": (
        """
        import re
        WORD = re.compile('a')
        def t(n: str) -> bool:
            'T.'
            return bool(WORD.match(n))
        """,
        "'a'",
        "'b'",
    ),
    "a dataclass": (
        """
        from dataclasses import dataclass
        @dataclass(frozen=True)
        class Rate:
            k: int
        RATE = Rate(2)
        def t(n: int) -> int:
            'T.'
            return n * RATE.k
        """,
        "Rate(2)",
        "Rate(7)",
    ),
    "a table of functions": (
        """
        def a(n): return n + 1
        BY = {'a': a}
        def t(n: int) -> int:
            'T.'
            return BY['a'](n)
        """,
        "n + 1",
        "n + 2",
    ),
    "the output's type": (
        """
        from pydantic import BaseModel
        class Out(BaseModel):
            k: int
        def t(n: int) -> Out:
            'T.'
            return Out(k=n)
        """,
        "k: int",
        "k: float",
    ),
    "a type inside the output's type": (
        """
        from pydantic import BaseModel
        class In(BaseModel):
            k: int
        class Out(BaseModel):
            i: list[In]
        def t(n: int) -> Out:
            'T.'
            return Out(i=[In(k=n)])
        """,
        "k: int",
        "k: float",
    ),
    "a validator of the output's type": (
        """
        from pydantic import BaseModel, field_validator
        class Out(BaseModel):
            k: int
            @field_validator('k')
            @classmethod
            def up(cls, k): return k * 2
        def t(n: int) -> Out:
            'T.'
            return Out(k=n)
        """,
        "k * 2",
        "k * 7",
    ),
    "a validator of an argument": (
        """
        from typing import Annotated
        from pydantic import AfterValidator
        def up(n): return n * 2
        def t(n: Annotated[int, AfterValidator(up)]) -> int:
            'T.'
            return n
        """,
        "n * 2",
        "n * 7",
    ),
    "what a function imports itself": (
        """
        def t(n: int) -> int:
            'T.'
            from shop import RATE
            return n * RATE
        RATE = 2
        """,
        "RATE = 2",
        "RATE = 7",
    ),
    "what it catches": (
        """
        def h(n):
            try: return int(n)
            except ValueError: return 0
        def t(n: str) -> int:
            'T.'
            return h(n)
        """,
        "except ValueError",
        "except TypeError",
    ),
    "what a dataclass makes": (
        """
        from dataclasses import dataclass, field
        @dataclass
        class Rate:
            n: int
            k: int = field(default_factory=lambda: 2)
        def t(n: int) -> int:
            'T.'
            return n * Rate(n).k
        """,
        "lambda: 2",
        "lambda: 7",
    ),
    "a metaclass": (
        """
        class M(type):
            def __call__(cls, n): return n + 1
        class K(metaclass=M): pass
        def t(n: int) -> int:
            'T.'
            return K(n)
        """,
        "n + 1",
        "n + 2",
    ),
    "a descriptor": (
        """
        class D:
            def __init__(self, rate): self.rate = rate
            def __get__(self, it, kind): return self.rate
        class K:
            rate = D(2)
        def t(n: int) -> int:
            'T.'
            return K.rate * n
        """,
        "D(2)",
        "D(7)",
    ),
    "the order of a pattern": (
        """
        class K:
            __match_args__ = ('a', 'b')
            a, b = 1, 2
        def t(n: int) -> int:
            'T.'
            match K():
                case K(it):
                    return it * n
            return 0
        """,
        "('a', 'b')",
        "('b', 'a')",
    ),
    "a number of a class of its own": (
        """
        class Rate(float): pass
        RATE = Rate(2.5)
        def t(n: int) -> int:
            'T.'
            return int(n * RATE)
        """,
        "2.5",
        "7.5",
    ),
    "a text of a class of its own": (
        """
        class Name(str): pass
        NAME = Name('ab')
        def t(n: int) -> int:
            'T.'
            return len(NAME) * n
        """,
        "'ab'",
        "'abc'",
    ),
    "what an error tells": (
        """
        E = ValueError('ab')
        def t(n: int) -> int:
            'T.'
            return len(str(E)) * n
        """,
        "'ab'",
        "'abc'",
    ),
    "how a dataclass is made": (
        """
        import dataclasses
        @dataclasses.dataclass(eq=True)
        class P:
            a: int
        def t(n: int) -> int:
            'T.'
            return n * (P(1) == P(1))
        """,
        "eq=True",
        "eq=False",
    ),
    "how a field of a dataclass counts": (
        """
        import dataclasses
        @dataclasses.dataclass
        class P:
            a: int = dataclasses.field(compare=True)
        def t(n: int) -> int:
            'T.'
            return n * (P(1) == P(2))
        """,
        "compare=True",
        "compare=False",
    ),
    "a private attribute of a model": (
        """
        from pydantic import BaseModel
        class P(BaseModel):
            _rate: int = 2
        def t(n: int) -> int:
            'T.'
            return n * P()._rate
        """,
        "= 2",
        "= 7",
    ),
    "whether a field is left out": (
        """
        from pydantic import BaseModel, Field
        class P(BaseModel):
            a: int = Field(2, exclude=True)
        def t(n: int) -> int:
            'T.'
            return n * len(P().model_dump())
        """,
        "exclude=True",
        "exclude=False",
    ),
    "what an adapter reads": (
        """
        from pydantic import TypeAdapter
        A = TypeAdapter(list[int])
        def t(n: int) -> int:
            'T.'
            return n * len(A.validate_python((1, 1)))
        """,
        "list[int]",
        "set[int]",
    ),
    "what is picked of a tuple": (
        """
        import operator
        pick = operator.itemgetter(0)
        def t(n: int) -> int:
            'T.'
            return pick((n, 2 * n))
        """,
        "itemgetter(0)",
        "itemgetter(1)",
    ),
    "a slice": (
        """
        S = slice(0, 1)
        def t(n: int) -> int:
            'T.'
            return n * len('abc'[S])
        """,
        "0, 1",
        "0, 2",
    ),
    "a template": (
        """
        import string
        T = string.Template('a $n')
        def t(n: int) -> int:
            'T.'
            return len(T.substitute(n=n))
        """,
        "'a $n'",
        "'ab $n'",
    ),
    "a mapping of the library": (
        """
        import collections
        RATES = collections.ChainMap({'eu': 2})
        def t(n: int) -> int:
            'T.'
            return RATES['eu'] * n
        """,
        "2",
        "7",
    ),
}
