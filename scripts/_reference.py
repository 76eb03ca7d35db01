"""Shows the reference the parameters that methods take from elsewhere, as ``help`` shows them.

``takes(Options)`` has a method take the fields of a dataclass; ``_waiting(Engine.why)`` and its
like make a method of the sync face from another one. griffe reads the source, and runs none of it.
"""

from __future__ import annotations

from typing import Any, cast

import griffe

#: How methods are made of others.
_MADE_BY = ("_waiting", "_at_once", "_a_run")


class Parameters(griffe.Extension):  # type: ignore[misc]
    """To be listed after ``dataclasses``, which finds what a dataclass takes."""

    def on_package(self, *, pkg: Any, **_: Any) -> None:
        """Once all modules are read."""
        classes = [it for it in _classes(pkg) if it.path.startswith("execgraph.engine.")]
        for owner in classes:
            for method in owner.functions.values():
                for one in (method, *(method.overloads or ())):
                    _fill_in(one)
        for owner in classes:
            for name, attribute in list(owner.attributes.items()):
                if (method := _method_of(attribute)) is not None:
                    owner.set_member(name, _copy(method, name, owner))


def _classes(module: Any) -> list[Any]:
    own = [it for it in module.classes.values() if not it.is_alias]
    return own + [it for sub in module.modules.values() if not sub.is_alias for it in _classes(sub)]


def _fill_in(method: Any) -> None:
    """Have a method take what the dataclass does that ``takes`` names."""
    for decorator in method.decorators:
        if str(decorator.value).startswith("takes("):
            options = decorator.value.arguments[0]
            listed = _found(method, options.canonical_path)["__init__"].parameters
            method.parameters = griffe.Parameters(method.parameters[0], *list(listed)[1:])


def _method_of(attribute: Any) -> Any:
    value = attribute.value
    if not isinstance(value, griffe.ExprCall) or str(value.function) not in _MADE_BY:
        return None
    return _found(attribute, cast(Any, value.arguments[0]).canonical_path)


def _found(near: Any, path: str) -> Any:
    found = near.modules_collection[path]
    return found.final_target if found.is_alias else found


def _copy(method: Any, name: str, owner: Any) -> Any:
    made = griffe.Function(
        name, parameters=method.parameters, returns=method.returns, docstring=method.docstring
    )
    made.parent = owner
    return made
