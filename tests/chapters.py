"""The chapters as tests read them: their prose, and their code run in part."""

import ast
import builtins
import json
from functools import cache

from conftest import NOTEBOOKS


@cache
def cells(stem: str) -> list[dict]:
    """Return the cells of a chapter, such as ``"03_centered"``."""
    (path,) = (path for path in NOTEBOOKS if path.stem == stem)
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def source(cell: dict) -> str:
    return "".join(cell["source"])


@cache
def statements(stem: str) -> tuple[ast.stmt, ...]:
    """Return the statements of a chapter's code cells, one after the other."""
    code = (source(cell) for cell in cells(stem) if cell["cell_type"] == "code")
    return tuple(statement for text in code for statement in ast.parse(text).body)


def run(stem: str, *names: str) -> dict:
    """Run what a chapter needs to define these names, and nothing else, and return all that was defined.

    A name is followed back from where the chapter first gives it a value: to the statements that
    define what this one uses, and so on. Whatever else the chapter does, such as sampling and
    drawing, is left out.
    """
    found, wanted = [], set(names)
    body = statements(stem)
    last = max(
        next(k for k, statement in enumerate(body) if name in _binds(statement)) for name in names
    )
    for statement in reversed(body[: last + 1]):
        if not (_binds(statement) | _changes(statement)) & wanted:
            continue
        found.append(statement)
        wanted = (wanted - _replaces(statement)) | (_loads(statement) - set(dir(builtins)))
    module = ast.Module(found[::-1], [])
    names_there: dict = {}
    exec(compile(module, stem, "exec"), names_there)
    return names_there


def calls(stem: str, function: str) -> list[ast.Call]:
    """Return the calls of a function, as it is written there, in the order of the chapter."""
    nodes = [node for statement in statements(stem) for node in ast.walk(statement)]
    found = [n for n in nodes if isinstance(n, ast.Call) and ast.unparse(n.func) == function]
    return sorted(found, key=lambda n: nodes.index(n))


def constants(node: ast.AST) -> list:
    """Return the numbers written in a piece of code, from left to right."""
    found = [n for n in ast.walk(node) if isinstance(n, ast.Constant) and type(n.value) in (int, float)]
    return [n.value for n in sorted(found, key=lambda n: (n.lineno, n.col_offset))]


def _binds(node: ast.stmt) -> set[str]:
    """Names that a statement gives a value to, those in its blocks included."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    if isinstance(node, ast.FunctionDef):
        return {node.name}
    names = _stores(node)
    inner = (n for n in ast.walk(node) if isinstance(n, ast.comprehension))
    return names - {n.id for c in inner for n in ast.walk(c.target) if isinstance(n, ast.Name)}


def _replaces(node: ast.stmt) -> set[str]:
    """Names whose earlier value no longer matters after a statement."""
    simple = ast.Assign | ast.Import | ast.ImportFrom | ast.FunctionDef | ast.With
    return _binds(node) if isinstance(node, simple) else set()


def _changes(node: ast.stmt) -> set[str]:
    """Names whose value a statement changes in place: a column set, a method called for itself."""
    changed = set()
    if isinstance(node, ast.Assign | ast.AugAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        changed = {_root(t) for t in targets if isinstance(t, ast.Subscript | ast.Attribute)}
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        changed = {_root(node.value.func)} if isinstance(node.value.func, ast.Attribute) else set()
    return changed


def _root(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _loads(node: ast.AST) -> set[str]:
    """Names whose value a statement needs from before it."""
    loads = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    if isinstance(node, ast.With | ast.For):
        loads, bound = set(), set()
        heads = [i.context_expr for i in node.items] if isinstance(node, ast.With) else [node.iter]
        for part in heads:
            loads |= _loads(part)
        if isinstance(node, ast.For):
            bound |= {n.id for n in ast.walk(node.target) if isinstance(n, ast.Name)}
        else:
            bound |= {i.optional_vars.id for i in node.items if i.optional_vars is not None}
        for statement in node.body:
            loads |= _loads(statement) - bound
            bound |= _binds(statement)
        return loads
    own = {n.arg for n in ast.walk(node) if isinstance(n, ast.arg)}
    for inner in ast.walk(node):
        if isinstance(inner, ast.comprehension):
            own |= {n.id for n in ast.walk(inner.target) if isinstance(n, ast.Name)}
    return loads - own - (_stores(node) if isinstance(node, ast.FunctionDef) else set())


def _stores(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
