"""A digest of the code that makes a fit, so that a stored table can tell whether it is current.

The digest is read from source files alone. From a function it follows every name that is bound in the
same package: functions, classes with their bases, constants, modules. What comes from other packages
counts by its name; their versions are recorded elsewhere.
"""

from __future__ import annotations

import ast
import builtins
import functools
import hashlib
import importlib
import importlib.util
import symtable
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fieldguide.priors import prior_parameters

PACKAGE = __name__.partition(".")[0]


def code_digest(function: Callable) -> str:
    """Return sixteen hexadecimal digits that change with the code that a function uses.

    Comments, docstrings, the messages of exceptions, layout and code that the function does not reach
    do not count, nor does what only a type checker reads: annotations of arguments, results and
    variables, imports for them, and `typing.cast`. Annotations in the body of a class count, since a
    data class or a schema reads them. A constant, that is a name in capitals, counts by its value where
    it is made of numbers, strings and SciPy distributions. Other variables of a module, such as locks
    and caches, change while a program runs, so the statement that makes them counts.

    Parameters
    ----------
    function : callable
        Defined at the top level of a module whose source is at hand. Code of its own package and of
        this one is followed.

    Raises
    ------
    ValueError
        If the function is not defined at the top level of a module.
    """
    inner = function
    while isinstance(inner, functools.partial) or hasattr(inner, "__wrapped__"):
        inner = inner.func if isinstance(inner, functools.partial) else inner.__wrapped__
    qualified = getattr(inner, "__qualname__", repr(inner))
    if "." in qualified or "<" in qualified:
        raise ValueError(f"{qualified} is not at the top level of a module; its code is not followed.")
    packages = {PACKAGE, inner.__module__.partition(".")[0]}
    described: dict[str, str] = {}
    waiting = [(inner.__module__, qualified)]
    while waiting:
        module, name = waiting.pop()
        label = f"{module}:{name}"
        if label not in described:
            described[label], found = _describe(module, name, packages)
            waiting += found
    if isinstance(function, functools.partial):
        described["partial"] = repr((function.args, sorted(function.keywords.items())))
    # Where a thing is defined does not count, only what it is called and what it says.
    lines = sorted({f"{label.rpartition(':')[2]} = {text}" for label, text in described.items() if text})
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


_Name = tuple[str, str]
"""A module and a name in it; no name for the module as a whole."""


def _describe(module: str, name: str, packages: set[str]) -> tuple[str, list[_Name]]:
    """Return what a name of a module stands for, as text, and which other names that text uses."""
    if not name:
        tree = _tree(module)
        return ast.unparse(tree), _uses(tree, module, packages)
    statements = _bindings(module).get(name, [])
    if not statements:
        return _described_at_run_time(module, name, packages)
    if name.isupper() and not any(isinstance(node, _IMPORTS) for node in statements):
        try:
            value = getattr(importlib.import_module(module), name)
            return _value(value), _own_distributions(value, packages)
        except (_NotPlainError, AttributeError):
            pass  # then how it is made counts
    text, found = [], []
    for node in statements:
        if isinstance(node, _IMPORTS):
            source, _, original = _imported(node, module)[name].partition(":")
            if source.partition(".")[0] in packages:
                found += _resolved(source, [original] if original else [])
            else:
                text.append(f"{source}:{original}")
        else:
            text.append(ast.unparse(node))
            found += _uses(node, module, packages)
    return "\n".join(text), found


def _described_at_run_time(module: str, name: str, packages: set[str]) -> tuple[str, list[_Name]]:
    """Follow a name that no statement of the module binds, such as one that it loads when asked."""
    if hasattr(builtins, name) and name not in vars(sys.modules[module]):
        return "built in", []
    thing: Any = getattr(importlib.import_module(module), name, None)
    home = getattr(thing, "__module__", None) or ""
    if home != module and home.partition(".")[0] in packages:
        return "", [(home, thing.__qualname__.partition(".")[0])]
    return "unknown", []


# ---------------------------------------------------------------------------------------------
# Source

_IMPORTS = (ast.Import, ast.ImportFrom)


class _Words(ast.NodeTransformer):
    """Takes out what cannot change a result.

    These are docstrings and every other string that stands alone, what exceptions say, and what only
    a type checker reads.
    """

    def __init__(self):
        self._casts: set[str] = set()  # what the module calls typing.cast
        self._in_class = False

    def visit_Raise(self, node):
        if isinstance(node.exc, ast.Call):
            node.exc = node.exc.func
        return node

    def visit_Expr(self, node):
        alone = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if alone else self.generic_visit(node)

    def visit_ImportFrom(self, node):
        if node.module == "typing":
            self._casts |= {alias.asname or alias.name for alias in node.names if alias.name == "cast"}
        return None if node.module == "__future__" else node

    def visit_If(self, node):
        if ast.unparse(node.test) not in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            return self.generic_visit(node)
        return [part for part in map(self.visit, node.orelse) if part is not None]

    def visit_ClassDef(self, node):
        outside, self._in_class = self._in_class, True
        node = self.generic_visit(node)
        self._in_class = outside
        return node

    def visit_FunctionDef(self, node):
        outside, self._in_class = self._in_class, False
        node.returns, node.type_params = None, []
        node = self.generic_visit(node)
        self._in_class = outside
        return node

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_arg(self, node):
        node.annotation = None
        return node

    def visit_AnnAssign(self, node):
        node = self.generic_visit(node)
        if self._in_class:
            return node
        if node.value is None:
            return None
        return ast.copy_location(ast.Assign([node.target], node.value), node)

    def visit_Call(self, node):
        node = self.generic_visit(node)
        is_cast = isinstance(node.func, ast.Name) and node.func.id in self._casts
        return node.args[1] if is_cast and len(node.args) == 2 else node

    def generic_visit(self, node):
        node = super().generic_visit(node)
        if getattr(node, "body", None) == []:
            node.body = [ast.Pass()]
        return node


def _source(module: str) -> Path:
    path = importlib.import_module(module).__file__
    if path is None:
        raise ValueError(f"{module} has no source file; its code is not followed.")
    return Path(path)


def _tree(module: str) -> ast.Module:
    path = _source(module)
    return _parsed(path, path.stat().st_mtime_ns)


@functools.cache
def _parsed(path: Path, changed: int) -> ast.Module:
    tree = _Words().visit(ast.parse(path.read_text(encoding="utf-8")))
    return ast.fix_missing_locations(tree)


def _bindings(module: str) -> dict[str, list[ast.stmt]]:
    """Return the top-level statements that bind each name of a module."""
    return _bindings_in(_tree(module), module)


@functools.cache
def _bindings_in(tree: ast.Module, module: str) -> dict[str, list[ast.stmt]]:
    found: dict[str, list[ast.stmt]] = {}

    def collect(statements):
        for node in statements:
            for name in _bound(node, module):
                found.setdefault(name, []).append(node)
            if isinstance(node, ast.If | ast.Try | ast.With):
                handlers = getattr(node, "handlers", [])
                for part in (node, *handlers):
                    for field in ("body", "orelse", "finalbody"):
                        collect(getattr(part, field, []))

    collect(tree.body)
    return found


def _bound(node: ast.stmt, module: str) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, _IMPORTS):
        yield from _imported(node, module)
    elif not isinstance(node, ast.If | ast.Try | ast.With):
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                yield part.id


def _imported(node: ast.Import | ast.ImportFrom, module: str) -> dict[str, str]:
    """Return the names that an import binds, each as ``module:name`` or ``module``."""
    if isinstance(node, ast.Import):
        return {
            alias.asname or alias.name.partition(".")[0]: (
                alias.name if alias.asname else alias.name.partition(".")[0]
            )
            for alias in node.names
        }
    source = node.module or ""
    if node.level:
        is_package = _source(module).stem == "__init__"
        parent = module.split(".")
        parent = parent[: len(parent) - node.level + is_package]
        source = ".".join([*parent, source] if source else parent)
    return {alias.asname or alias.name: f"{source}:{alias.name}" for alias in node.names}


def _resolved(module: str, names: list[str]) -> list[_Name]:
    """Follow ``module.a.b`` through submodules to a name, or to a module as a whole."""
    while names:
        submodule = f"{module}.{names[0]}"
        bound = names[0] in _bindings(module)
        if bound or not hasattr(importlib.import_module(module), "__path__"):
            return [(module, names[0])]
        if importlib.util.find_spec(submodule) is None:
            return [(module, names[0])]
        module, names = submodule, names[1:]
    return [(module, "")]


def _uses(node: ast.AST, module: str, packages: set[str]) -> list[_Name]:
    """Return the names of the packages that a piece of source refers to."""
    names = _global_names(symtable.symtable(ast.unparse(node), module, "exec"))
    local: dict[str, str] = {}
    for part in ast.walk(node):
        if isinstance(part, _IMPORTS) and part is not node:
            local |= _imported(part, module)
    chains = _chains(node)
    found = []
    bound = _bindings(module)
    for name in sorted(names | local.keys()):
        target = local.get(name)
        if target is None:
            imports = [one for one in bound.get(name, []) if isinstance(one, _IMPORTS)]
            target = _imported(imports[-1], module)[name] if imports else None
        if target is None:
            found.append((module, name))
            continue
        source, _, original = target.partition(":")
        if source.partition(".")[0] not in packages:
            found += [] if name in local else [(module, name)]
            continue
        start = [original] if original else []
        reference = _resolved(source, start)[0]
        if reference[1]:
            found.append(reference)
        else:  # a module: what is used of it
            for chain in chains.get(name, {()}):
                found += _resolved(source, [*start, *chain])
    return found


def _global_names(table: symtable.SymbolTable) -> set[str]:
    names = {
        symbol.get_name()
        for symbol in table.get_symbols()
        if symbol.is_referenced() and symbol.is_global()
    }
    return names.union(*(_global_names(child) for child in table.get_children()))


def _chains(node: ast.AST) -> dict[str, set[tuple[str, ...]]]:
    """Return for each name the attributes that are asked of it, ``a.b.c`` as a: (b, c)."""
    chains: dict[str, set[tuple[str, ...]]] = {}
    inner = set()
    for part in ast.walk(node):  # outer nodes come first
        attributes = []
        end = part
        while isinstance(end, ast.Attribute):
            inner.add(end.value)
            attributes.append(end.attr)
            end = end.value
        if part not in inner and isinstance(end, ast.Name):
            chains.setdefault(end.id, set()).add(tuple(reversed(attributes)))
    return chains


# ---------------------------------------------------------------------------------------------
# Values


class _NotPlainError(TypeError):
    """A value that has no stable form of its own."""


def _value(value: Any) -> str:
    """Write a constant so that it reads the same in every process and on every machine."""
    if isinstance(value, np.generic):
        value = value.item()
    if type(value) is float:
        return f"{value:.14g}"  # a computed constant may differ in the last digit between machines
    if value is None or type(value) in (bool, int, complex, str, bytes):
        return repr(value)
    if type(value) in (tuple, list):
        return f"{type(value).__name__}({', '.join(map(_value, value))})"
    if type(value) in (set, frozenset):
        return f"{type(value).__name__}({', '.join(sorted(map(_value, value)))})"
    if type(value) is dict:
        return f"dict({', '.join(sorted(f'{_value(k)}: {_value(v)}' for k, v in value.items()))})"
    try:
        family, shapes, loc, scale = prior_parameters(value)
    except TypeError:
        raise _NotPlainError(f"{value!r} has no stable form") from None
    return f"{family}{_value([*map(float, shapes), float(loc), float(scale)])}"


def _own_distributions(value: Any, packages: set[str]) -> list[_Name]:
    """Return the classes of the packages that distributions inside a constant belong to."""
    if isinstance(value, dict):
        value = [*value.values()]
    if isinstance(value, tuple | list | set | frozenset):
        return [reference for part in value for reference in _own_distributions(part, packages)]
    kind = type(getattr(value, "dist", None))
    return (
        [(kind.__module__, kind.__qualname__)] if kind.__module__.partition(".")[0] in packages else []
    )
