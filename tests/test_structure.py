"""How the package is laid out: what imports what, and that configurations and README name what there is."""
import ast
import re

import pytest
import yaml

from gi.config import load_config
from gi.config.schema import find_target

# Folders and files of gi/, lowest first. Each imports from lower lines only; none from beside it.
LAYERS = [
    {"_torchvision", "errors", "compositing", "heap", "resources"},
    {"config", "media"},
    {"weights"},
    {"flow", "unpickle"},
    {"models", "losses", "metrics"},
    {"data", "report"},
    {"training"},
    {"photo", "video"},
    {"internal", "diffusion"},
    {"app"},
    {"commands"},
    {"__main__"},
    {"main"},
]
HEIGHT = {name: height for height, names in enumerate(LAYERS) for name in names}


def imported(path):
    """Modules of gi that a file imports anywhere in it, also inside functions, without the leading "gi."."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports relative to its place"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.removeprefix("gi.") for name in names if name.startswith("gi."))


def test_no_other_rooms_at_the_top(root):
    there = {path.stem for path in (root / "gi").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert there - {"__init__"} <= HEIGHT.keys()


@pytest.mark.parametrize("room", [name for name in HEIGHT])
def test_imports_go_one_way(root, room):
    gi = root / "gi"
    wrong = []
    for path in [*(gi / room).rglob("*.py"), *gi.glob(f"{room}.py")]:
        for name in imported(path):
            other = name.split(".")[0]
            if other not in (room, "__version__") and HEIGHT[other] >= HEIGHT[room]:
                wrong.append(f"{path.relative_to(root)} imports gi.{name}")
    assert not wrong, "\n".join(wrong)


def unannotated(tree):
    """(function, what of it has no annotation) of the public functions of a module and of its public classes.

    Not of Lightning's hooks, whose arguments Lightning names and documents.
    """
    public = [node for node in tree.body if not getattr(node, "name", "_").startswith("_")]
    methods = [node for kind in public if isinstance(kind, ast.ClassDef) for node in kind.body]
    for node in [*public, *methods]:
        if not isinstance(node, ast.FunctionDef) or re.match(r"_(?!_init__)|on_|setup$|\w+_step$", node.name):
            continue
        own = node in methods and not any(getattr(mark, "id", "") == "staticmethod" for mark in node.decorator_list)
        names = [*node.args.posonlyargs, *node.args.args][own:]
        names += [*node.args.kwonlyargs, *filter(None, [node.args.vararg, node.args.kwarg])]
        yield from ((node.name, name.arg) for name in names if name.annotation is None)
        if node.returns is None and node.name != "__init__":
            yield node.name, "the result"


def test_public_functions_are_annotated(root):
    example = "class A:\n def __init__(self, x): ...\n def b(self, y: int, *z): ...\n def _c(self, x): ...\n"
    example += "def d(): ..."
    assert [*unannotated(ast.parse(example))] == [("d", "the result"), ("__init__", "x"), ("b", "z"),
                                                  ("b", "the result")]
    wrong = [f"{path.relative_to(root)}: {function}: {what} has no annotation" for path in (root / "gi").rglob("*.py")
             for function, what in unannotated(ast.parse(path.read_text(encoding="utf-8")))]
    assert not wrong, "\n".join(wrong)


def test_package_itself_imports_nothing_slow(root):
    assert set(imported(root / "gi" / "__init__.py")) == {"_torchvision"}


def targets(node):
    if isinstance(node, dict):
        if isinstance(node.get("target"), str):
            yield node["target"]
        node = list(node.values())
    for item in node if isinstance(node, list) else ():
        yield from targets(item)


def test_configurations_name_what_exists(root):
    files = list((root / "configs").rglob("*.yaml"))
    named = {(target, "lightning.callbacks.x" if target.startswith("pytorch_lightning.callbacks.") else file.name)
             for file in files for target in targets(yaml.safe_load(file.read_text(encoding="utf-8")))}
    assert len(named) > 20
    for target, path in named:
        find_target(target, path)


def test_folders_of_photographs_may_be_small(root):
    """Validations may be further apart than an epoch is long, which Lightning allows if they are not tied to epochs."""
    for file in (root / "configs").rglob("*.yaml"):
        trainer = load_config([file]).get("lightning", {}).get("trainer", {})
        if "val_check_interval" in trainer:
            assert trainer.check_val_every_n_epoch is None, file


def test_folder_map_is_complete(root):
    text = (root / "README.md").read_text(encoding="utf-8")
    folder_map = text[text.index("## Folder map"):]
    tops = ["configs", "checkpoints", "data", "docs", "scripts", "tools", "tests", "gi"]
    rooms = [path.parent.name for path in (root / "gi").glob("*/__init__.py")]
    files = [path.name for path in (root / "gi").glob("*.py") if not path.name.startswith("_")]
    missing = [name for name in [*(f"{name}/" for name in tops + rooms), *files] if name not in folder_map]
    assert not missing


def anchors(text):
    """Of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_of_documents_lead_somewhere(root):
    pages = [*root.glob("*.md"), *(path for part in ("docs", "checkpoints", "data", "tools")
                                   for path in (root / part).rglob("*.md"))]
    checked, wrong = 0, []
    for page in pages:
        for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text(encoding="utf-8")):
            name, _, anchor = link.partition("#")
            target = (page.parent / name).resolve() if name else page
            checked += 1
            if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
                wrong.append(f"{page.relative_to(root)}: {link}")
    assert checked > 40 and not wrong, "\n".join(wrong)
