"""Who may import whom: rules over the syntax trees of edgedistill/, and the same in processes where heavy packages are blocked."""

from __future__ import annotations

import ast
import configparser
import graphlib
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import setuptools

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "edgedistill"

CONTRACT = (
    "errors",
    "validation",
    "overrides",
    "recipe",
    "manifest",
    "bundle",
    "preprocess",
    "postprocess",
    "latency",
    "metrics",
    "streams",
)
LIGHT = {"numpy", "msgspec", "edgedistill"}
INTERPRETERS = {"ai_edge_litert", "tflite_runtime", "onnxruntime"}
#: Packages that one module alone may import, inside of the functions that need them.
OPTIONAL = {
    "edgedistill.runtime.mqtt": {"paho"},
    "edgedistill.runtime.picamera": {"picamera2", "libcamera"},
    "edgedistill.runtime.serve.metrics": {"prometheus_client"},
}
#: Packages of the extra `iot`, and who may import them: in functions only, so that nobody else needs them.
IOT = {"paho": "edgedistill.runtime.mqtt", "prometheus_client": "edgedistill.runtime.serve"}
HEAVY = ("torch", "torchvision", "timm", "lightning_fabric", "onnx", "onnxscript", "litert_torch", "ai_edge_quantizer", "tensorflow", "jax")


class Layer(NamedTuple):
    """What a layer may import: layers of edgedistill, and other packages (None: any but click)."""

    layers: set[str]
    packages: set[str] | None


#: `edgedistill` itself holds only the version; `top` is everything that puts the parts together.
LAYERS = {
    "root": Layer(set(), set()),
    "contract": Layer({"root", "contract"}, LIGHT),
    "runtime": Layer({"root", "contract", "runtime"}, LIGHT | INTERPRETERS | {"cv2"}),
    "distill": Layer({"root", "contract", "distill"}, None),
    "convert": Layer({"root", "contract", "runtime", "convert"}, None),
    "top": Layer({"root", "contract", "runtime", "distill", "convert", "top"}, None),
}


def layer_of(module: str) -> str:
    """Return the layer of a module such as edgedistill.runtime.engines."""
    part = module.split(".")[1] if "." in module else ""
    if not part:
        return "root"
    if part in CONTRACT:
        return "contract"
    return part if part in LAYERS else "top"


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file): file for file in sorted(PACKAGE.rglob("*.py"))}


def imports(source: str, module: str, *, is_package: bool = False) -> Iterator[str]:
    """Yield the dotted name of each import, in functions too, and of each `import_module` of a literal name."""
    parents = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*parents[: len(parents) - node.level + 1], *filter(None, [node.module])]) if node.level else node.module or ""
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield from (
                argument.value for argument in node.args[:1] if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
            )


def violations(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """Return what a module imports against the rules."""
    layer = LAYERS[layer_of(module)]
    found = []
    for name in imports(source, module, is_package=is_package):
        package = name.split(".")[0]
        if package == "edgedistill":
            allowed = layer_of(name) in layer.layers or name == "edgedistill.__version__"
        elif package in sys.stdlib_module_names:
            allowed = True
        elif package == "click":
            allowed = module.split(".")[1:2] == ["cli"]
        elif package in IOT:
            allowed = f"{module}.".startswith(f"{IOT[package]}.")
        elif package == "cv2" and layer_of(module) == "contract":
            allowed = module == "edgedistill.preprocess"
        elif package in OPTIONAL.get(module, ()):
            allowed = True
        else:
            allowed = layer.packages is None or package in layer.packages
        if not allowed:
            found.append(f"{module} imports {name}")
    return found


@pytest.mark.parametrize("module", MODULES)
def test_each_module_imports_only_what_its_layer_may(module: str) -> None:
    file = MODULES[module]
    assert violations(file.read_text(), module, is_package=file.name == "__init__.py") == []


@pytest.mark.parametrize("layer", LAYERS)
def test_each_layer_has_modules(layer: str) -> None:
    assert layer in {layer_of(module) for module in MODULES}


def test_each_contract_module_is_a_file_of_its_own() -> None:
    assert {f"edgedistill.{name}" for name in CONTRACT} <= set(MODULES)


@pytest.mark.parametrize(
    ("module", "source", "forbidden"),
    [
        ("edgedistill", "import numpy", "numpy"),
        ("edgedistill.bundle", "import numpy, hashlib, msgspec", None),
        ("edgedistill.bundle", "import torch", "torch"),
        ("edgedistill.bundle", "import cv2", "cv2"),
        ("edgedistill.preprocess", "import cv2", None),
        ("edgedistill.bundle", "from edgedistill.runtime import open_engine", "edgedistill.runtime.open_engine"),
        ("edgedistill.bundle", "from edgedistill import runtime", "edgedistill.runtime"),
        ("edgedistill.bundle", "from . import pipeline", "edgedistill.pipeline"),
        ("edgedistill.bundle", "from .errors import BundleError", None),
        ("edgedistill.bundle", "def f():\n    import onnx", "onnx"),
        ("edgedistill.runtime.loop", "import cv2, onnxruntime", None),
        ("edgedistill.runtime.loop", "import ai_edge_litert.interpreter", None),
        ("edgedistill.runtime.loop", "from ..distill import loop", "edgedistill.distill.loop"),
        ("edgedistill.runtime.loop", "import onnx", "onnx"),
        ("edgedistill.runtime.loop", "import paho.mqtt.client", "paho.mqtt.client"),
        ("edgedistill.runtime.mqtt", "import paho.mqtt.client", None),
        ("edgedistill.runtime.mqtt", "import prometheus_client", "prometheus_client"),
        ("edgedistill.runtime.serve.metrics", "import prometheus_client", None),
        ("edgedistill.runtime.loop", "import click", "click"),
        ("edgedistill.runtime.loop", "import importlib\nimportlib.import_module('torch')", "torch"),
        ("edgedistill.runtime.loop", "from edgedistill.convert import export", "edgedistill.convert.export"),
        ("edgedistill.distill.loop", "import torch", None),
        ("edgedistill.distill.loop", "import edgedistill.runtime.engines", "edgedistill.runtime.engines"),
        ("edgedistill.distill.loop", "from edgedistill.convert import parity", "edgedistill.convert.parity"),
        ("edgedistill.convert.graph", "from edgedistill.runtime import open_engine", None),
        ("edgedistill.convert.graph", "from edgedistill.distill import networks", "edgedistill.distill.networks"),
        ("edgedistill.convert.graph", "from edgedistill.pipeline import x", "edgedistill.pipeline.x"),
        ("edgedistill.demo.steps", "from edgedistill.distill import networks\nfrom edgedistill.convert import graph", None),
        ("edgedistill.demo.steps", "import click", "click"),
        ("edgedistill.pipeline", "from click import echo", "click.echo"),
        ("edgedistill.cli.demo", "import click", None),
    ],
)
def test_the_rules_themselves(module: str, source: str, forbidden: str | None) -> None:
    assert violations(source, module) == ([] if forbidden is None else [f"{module} imports {forbidden}"])


def test_relative_imports_of_a_package_start_from_itself() -> None:
    assert list(imports("from . import a\nfrom .b import c\nfrom ..d import e", "x.y", is_package=True)) == ["x.y.a", "x.y.b.c", "x.d.e"]
    assert list(imports("from . import a\nfrom ..d import e", "x.y.z")) == ["x.y.a", "x.d.e"]


def edges(source: str, module: str, *, is_package: bool) -> set[str]:
    """Return the modules of edgedistill that a module imports when it is loaded or run."""
    targets = set()
    for name in imports(source, module, is_package=is_package):
        while name and name not in MODULES:
            name = name.rpartition(".")[0]
        targets |= {name} - {"", module, "edgedistill"}
    return targets


def test_there_are_no_import_cycles() -> None:
    graph = {module: edges(file.read_text(), module, is_package=file.name == "__init__.py") for module, file in MODULES.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)
sys.meta_path.insert(0, Blocker())
"""


def run_blocked(code: str, blocked: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    program = f"BLOCKED = {blocked!r}\n{BLOCKER}\n{textwrap.dedent(code)}"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False, cwd=ROOT)


NOT_ON_THE_DEVICE = (*HEAVY, *IOT, "click", "rich", "matplotlib", "jinja2", "safetensors", "tomli_w")
IMPORT_ALL = """
import importlib, pkgutil
import edgedistill.runtime
for name in CONTRACT:
    importlib.import_module(f"edgedistill.{name}")
for module in pkgutil.walk_packages(edgedistill.runtime.__path__, "edgedistill.runtime."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print("done")
"""


def test_contract_and_runtime_import_without_the_workstations_packages() -> None:
    done = run_blocked(f"CONTRACT = {CONTRACT!r}\n{IMPORT_ALL}", NOT_ON_THE_DEVICE)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_the_devices_command_line_needs_none_of_them_either() -> None:
    code = """
    import runpy
    sys.argv = ["edgedistill.runtime", "--help"]
    runpy.run_module("edgedistill.runtime", run_name="__main__", alter_sys=True)
    """
    done = run_blocked(code, NOT_ON_THE_DEVICE)
    assert done.returncode == 0, done.stderr
    assert "camera" in done.stdout


def test_the_blocker_blocks() -> None:
    done = run_blocked("import torch", ("torch",))
    assert done.returncode == 1
    assert "torch is blocked" in done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_the_command_lines_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = f"""
    import sys
    from edgedistill.cli import main
    try:
        main({arguments!r})
    except SystemExit as error:
        print("HEAVY", sorted({{"numpy", "cv2", *{HEAVY!r}}} & set(sys.modules)), "EXIT", error.code)
    """
    done = run_blocked(code, ())
    assert done.stdout.endswith("HEAVY [] EXIT 0\n"), done.stdout + done.stderr


def test_the_wheel_holds_only_edgedistill() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    include = config["options.packages.find"]["include"].split()
    packages = setuptools.find_packages(str(ROOT), include=include)
    assert "edgedistill" in packages
    assert {name.split(".")[0] for name in packages} == {"edgedistill"}
    assert set(packages) == {name for name, file in MODULES.items() if file.name == "__init__.py"}


@pytest.mark.parametrize("folder", ["devices", "models", "export", "tests"])
def test_data_folders_hold_no_package(folder: str) -> None:
    assert list((ROOT / folder).rglob("__init__.py")) == []


def test_every_source_file_is_in_a_package() -> None:
    """A folder without __init__.py would be left out of the wheel without a word."""
    assert [str(file) for file in MODULES.values() if not (file.parent / "__init__.py").is_file()] == []
