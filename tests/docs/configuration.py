"""``docs/reference/configuration.md``: every key, with the text that stands below it in the code."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from enum import Enum
from fractions import Fraction
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic_core import PydanticUndefined

from ampd_ray.config.directories import DIRECTORIES
from ampd_ray.config.keys import Compression, Settings
from ampd_ray.providers.provider import ProviderConfig
from tests.docs.markdown import filled, page, table

INTRODUCTION = """\
One TOML file, named by `--config` or `AMP_CONFIG`. `AMP_CONFIG_<KEY>` overrides a key, `__` separates levels:
`AMP_CONFIG_WRITER__BYTES=1000000` is `bytes` in `[writer]`; `AMP_CONFIG_METADATA_DB_URL` counts where the file has no
URL. A relative path counts from the file. An unknown key is an error that names the nearest one; all problems are
reported at once. Durations are seconds. A solo environment reads `config.toml` in its directory, if there is one.

All of Amp's keys are accepted, so that one file serves both systems; [those without effect
here](#amps-keys-without-effect-here) stand at the end."""

VARIABLES = """\
| Variable | Meaning |
| --- | --- |
| `AMP_CONFIG` | the configuration file |
| `AMP_CONFIG_…` | one key of it |
| `AMP_DIR` | the solo environment's directory, `./.amp` |
| `AMP_NODE_ID` | the worker's name |
| `AMP_LOG` | `trace`, `debug`, `info`, `warn`, `error` or `off`; `info` for what runs on, else `warn` |
| `AMP_LOG_FORMAT` | `json`: a JSON object a line |
| `NO_COLOR` | no colours |
| `RAY_ADDRESS` | the Ray cluster that a worker joins |
| `AMPD_RAY_PURE` | `1`: without the compiled fast path |
| `AMPD_RAY_METADATA` | what `spot_notice = "auto"` means: `off`, or cloud and address, `aws=http://127.0.0.1:1338` |
| `AMPD_RAY_FAILPOINTS` | points at which to fail on purpose (`ampd_ray/failpoints.py`) |"""

PROVIDERS = """\
`providers_dir/<name>.toml`, one a provider; the name is `[a-z_][a-z0-9_]*`. `${NAME}` in a text is read from the
environment of the process that asks, which is a worker's, so no secret need stand in the file; `kind` and `network`
may hold none. An edit holds from the next job on. A file that cannot be used is skipped, with a warning; `ampd
providers list` says why. Keys that we do not know are left alone."""

COMPUTED = {
    ("metadata_db", "url"): "required, but in solo mode",
    ("metadata_db", "min_connections"): "a quarter of `pool_size`",
    ("ampd_ray", "failover_group"): "host and `data_dir`",
}
HEAD = ("Key", "Type", "Default", "Meaning")
KeyPath = tuple[str, ...]
Row = tuple[str, str, str, str]


def configuration_page() -> str:
    """The page."""
    tables, unused = [], []
    for path, keys in _tables(Settings):
        rows = [row for row in keys if row[-1]]
        unused += [f"`{'.'.join((*path, row[0].strip('`')))}`" for row in keys if not row[-1]]
        tables += [f"## {_heading(path)}\n\n{table(HEAD, rows)}"] if rows else []
    return page(
        "Configuration",
        INTRODUCTION,
        [
            *tables,
            f"## Provider files\n\n{PROVIDERS}",
            *_provider(),
            f"## Environment variables\n\n{VARIABLES}",
            f"## Amp's keys without effect here\n\n{filled(', '.join(unused))}.",
        ],
    )


def _heading(path: KeyPath) -> str:
    return f"[{'.'.join(path)}]" if path else "The top level"


def _provider() -> Iterator[str]:
    for path, rows in _tables(ProviderConfig):
        if path:
            yield f"In `[{'.'.join(path)}]`, which Amp ignores:"
        yield table(HEAD, rows)


def _tables(model: type[BaseModel], path: KeyPath = ()) -> Iterator[tuple[KeyPath, list[Row]]]:
    """A model's own keys, then those of the tables in it; a key without a text has no meaning."""
    meanings = attribute_docstrings(model)
    inner: dict[str, type[BaseModel]] = {}
    rows: list[Row] = []
    for name, field in model.model_fields.items():
        kinds = [kind for kind in _alternatives(field.annotation) if inspect.isclass(kind)]
        tables = [kind for kind in kinds if issubclass(kind, BaseModel)]
        if tables:
            inner[name] = tables[0]
        elif not field.exclude:
            rows.append((f"`{name}`", _type(field.annotation), _default(field, (*path, name)), meanings.get(name, "")))
    yield path, rows
    for name, below in inner.items():
        yield from _tables(below, (*path, name))


def attribute_docstrings(model: type) -> dict[str, str]:
    """The text below each annotated name of a class."""
    (body,) = ast.parse(inspect.getsource(model)).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for statement, after in zip(body.body, body.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            text = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else None
            if isinstance(text, str):
                found[statement.target.id] = inspect.cleandoc(text)
    return found


def _alternatives(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) is Annotated:
        yield from _alternatives(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for one in get_args(annotation):
            yield from _alternatives(one)
    else:
        yield annotation


WORDS = {
    str: "text",
    SecretStr: "text",
    Compression: "text",
    int: "integer",
    float: "number",
    bool: "true or false",
    Fraction: "number",
}


def _type(annotation: Any) -> str:
    kinds = [kind for kind in _alternatives(annotation) if kind is not NoneType]
    return " or ".join(dict.fromkeys(_word(kind) for kind in kinds))


def _word(kind: Any) -> str:
    origin = get_origin(kind)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in get_args(kind))
    return {tuple: "list of texts", dict: "table"}.get(origin) or WORDS[kind]


def _default(field: Any, key: tuple[str, ...]) -> str:
    if key in COMPUTED:
        return COMPUTED[key]
    if key[0] in DIRECTORIES:
        return f"`{DIRECTORIES[key[0]]}`, beside the file"
    if field.default is PydanticUndefined:
        return "required"
    return _shown(field.default)


def _shown(value: Any) -> str:
    match value:
        case None | () | {}:
            return ""
        case Compression():
            return f"`{value.codec}({value.level})`"
        case bool():
            return f"`{str(value).lower()}`"
        case Enum() | str():
            return f"`{value}`"
        case float():
            return f"{value:g}" if value < 1e6 else f"{value:,.0f}"
        case _:
            return f"{value}"
