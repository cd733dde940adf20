"""``docs/reference/python.md``: the public names of the package, from their signatures and docstrings."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, cast

import ampd_ray
from tests.docs.markdown import fence, page, prose, summary, table

INTRODUCTION = """\
`import ampd_ray as amp`; what follows is `amp.…`. Nothing of it imports Ray. Calls block, but those of `amp.aio`, which
are awaited. What goes wrong is an `AmpdError`; [error codes](errors.md) has them all. Arguments after `*` are named."""

WIDTH = 110
PREFIXES: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


def python_page() -> str:
    """The page."""
    names = [name for name in ampd_ray.__all__ if not name.startswith("__")]
    found = {name: getattr(ampd_ray, name) for name in names}
    functions = [name for name in names if inspect.isfunction(found[name])]
    errors = [name for name in names if inspect.isclass(found[name]) and issubclass(found[name], BaseException)]
    classes = [name for name in names if inspect.isclass(found[name]) and name not in errors]
    modules = [name for name in names if isinstance(found[name], ModuleType)]
    parts = [_overview(functions, classes, found)]
    parts += [_function(f"amp.{name}", found[name], "##") for name in sorted(functions)]
    parts += [_class(name, found[name]) for name in sorted(classes)]
    parts += [f"## amp.{name}\n\n{prose(found[name].__doc__)}" for name in sorted(modules)]
    parts.append(f"## Errors\n\n{_errors({name: found[name] for name in errors})}")
    return page("The Python client", INTRODUCTION, parts)


def _overview(functions: list[str], classes: list[str], found: dict[str, Any]) -> str:
    anchors = {name: f"amp{name}" for name in sorted(functions)} | {name: name.lower() for name in sorted(classes)}
    rows = [[f"[`amp.{name}`](#{anchor})", summary(found[name].__doc__)] for name, anchor in anchors.items()]
    return table(["Name", "Meaning"], rows)


def _errors(found: dict[str, type[BaseException]]) -> str:
    return table(["Error", "Meaning"], ([f"`amp.{name}`", summary(found[name].__doc__)] for name in sorted(found)))


def _class(name: str, kind: type) -> str:
    parts = [f"## {name}", prose(kind.__doc__)]
    if dataclasses.is_dataclass(kind):
        fields = [field for field in dataclasses.fields(kind) if not field.name.startswith("_") and field.repr]
        parts.append(fence("python", "\n".join(f"{field.name}: {field.type}" for field in fields)))
    parts += [_member(name, each, member) for each, member in _members(kind)]
    return "\n\n".join(parts)


def _members(kind: type) -> Iterator[tuple[str, Any]]:
    """The public methods and properties, inherited ones of this package too, in the order of their definition."""
    seen: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("ampd_ray"):
            seen |= {name: member for name, member in vars(base).items() if not name.startswith("_")}
    for name, member in seen.items():
        if inspect.isfunction(member) or isinstance(member, property | classmethod | staticmethod):
            yield name, member


def _member(owner: str, name: str, member: Any) -> str:
    title = f"{owner.lower()}.{name}"
    if isinstance(member, property):
        returns = inspect.signature(_function_of(member)).return_annotation
        return f"### {title}\n\n{fence('python', f'{title}: {returns}')}\n\n{prose(member.__doc__)}"
    return _function(title, _function_of(member), "###")


def _function_of(member: Any) -> Callable[..., Any]:
    unwrapped: Any = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
    return cast(Callable[..., Any], unwrapped)


def _function(title: str, function: Callable[..., Any], level: str) -> str:
    return f"{level} {title}\n\n{fence('python', signature(title, function))}\n\n{prose(function.__doc__)}"


def signature(name: str, function: Callable[..., Any]) -> str:
    """The call as it is written, annotations as in the source; a line per argument if it is long."""
    found = inspect.signature(function)
    parameters = [each for each in found.parameters.values() if each.name not in ("self", "cls")]
    words, starred = [], False
    for each in parameters:
        if each.kind is each.KEYWORD_ONLY and not starred:
            words.append("*")
        starred = starred or each.kind in (each.KEYWORD_ONLY, each.VAR_POSITIONAL)
        words.append(_parameter(each))
    asynchronous = "async " if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function) else ""
    returns = "" if found.return_annotation is found.empty else f" -> {found.return_annotation}"
    line = f"{asynchronous}{name}({', '.join(words)}){returns}"
    if len(line) <= WIDTH:
        return line
    return f"{asynchronous}{name}(\n" + "".join(f"    {word},\n" for word in words) + f"){returns}"


def _parameter(parameter: inspect.Parameter) -> str:
    prefix = PREFIXES.get(parameter.kind, "")
    typed = "" if parameter.annotation is parameter.empty else f": {parameter.annotation}"
    if parameter.default is parameter.empty:
        return f"{prefix}{parameter.name}{typed}"
    shown = "…" if inspect.isfunction(parameter.default) else repr(parameter.default)
    return f"{parameter.name}{typed} = {shown}" if typed else f"{parameter.name}={shown}"
