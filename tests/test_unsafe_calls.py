"""No file of others can run code: what could is found in the syntax trees, and not allowed.

The sandbox, which runs code that a model wrote, is the exception; what holds it is tested with it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.shared_data import REPOSITORY
from trainer.config.schema import ModelConfig

FILES = sorted(
    path
    for package in ("trainer", "data_modules", "launch", "benchmarks")
    for path in (REPOSITORY / package).rglob("*.py")
)
SANDBOX = "trainer/evaluation/sandbox/"
#: File -> what it may do all the same, and why.
EXCEPTIONS = {
    # between the sandbox and the code that it holds; the parent never unmarshals
    f"{SANDBOX}bootstrap.py": {"import marshal", "exec", "compile"},
    f"{SANDBOX}process.py": {"import marshal"},
    f"{SANDBOX}tests_code.py": {"import marshal", "compile"},
    # a metric of the user's own, named in the configuration as module:attribute
    "trainer/evaluation/metrics/registry.py": {"import_module"},
}
_UNPICKLERS = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
_BUILTINS = {"eval", "exec", "compile", "__import__", "breakpoint"}
_SHELLS = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}
_YAML_LOADERS = {"load", "load_all", "unsafe_load", "full_load", "full_load_all", "unsafe_load_all"}


def unsafe(tree: ast.AST) -> Iterator[str]:
    """What a module does that could run code of a file, in words."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [one.name.partition(".")[0] for one in node.names]
            yield from (f"import {name}" for name in names if name in _UNPICKLERS)
        elif isinstance(node, ast.ImportFrom):
            name = (node.module or "").partition(".")[0]
            if name in _UNPICKLERS:
                yield f"import {name}"
        elif isinstance(node, ast.Call):
            yield from _unsafe_call(node)


def _unsafe_call(node: ast.Call) -> Iterator[str]:
    called = ast.unparse(node.func)
    owner, _, name = called.rpartition(".")
    given = {one.arg: one.value for one in node.keywords}
    if called in _BUILTINS or name == "import_module":
        yield called.removeprefix("importlib.")
    if called in _SHELLS or not _is_false(given.get("shell")):
        yield "a shell"
    if name == "Environment" and not _is_true(given.get("autoescape")):
        yield "templates that do not escape"
    yield from _unsafe_load(owner, name, given)


def _unsafe_load(owner: str, name: str, given: dict[str | None, ast.expr]) -> Iterator[str]:
    """Files that are read in a way that could run what they hold."""
    if owner == "torch" and name == "load" and not _is_true(given.get("weights_only")):
        yield "torch.load without weights_only=True"
    if name == "load" and owner in ("np", "numpy") and not _is_false(given.get("allow_pickle")):
        yield "numpy.load with pickles"
    if owner == "yaml" and name in _YAML_LOADERS:
        yield f"yaml.{name}"
    trusted = given.get("trust_remote_code")
    # the user's own word, for what loads a model
    passed_on = (
        owner.startswith("Auto")
        and trusted is not None
        and ast.unparse(trusted) == "config.trust_remote_code"
    )
    if name == "from_pretrained" and owner.startswith("Auto"):
        if "Model" in owner and not _is_true(given.get("use_safetensors")):
            yield "a model that may not be safetensors"
        if not passed_on and (trusted is None or not _is_false(trusted)):
            yield "trust_remote_code"
    elif not passed_on and not _is_false(trusted):
        yield "trust_remote_code"


def _is_true(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Constant) and value.value is True


def _is_false(value: ast.expr | None) -> bool:
    """Said to be false, or not said: the default of all that is asked about."""
    return value is None or (isinstance(value, ast.Constant) and value.value is False)


@pytest.mark.parametrize("path", FILES, ids=[str(one.relative_to(REPOSITORY)) for one in FILES])
def test_no_module_runs_code_of_a_file(path: Path) -> None:
    found = set(unsafe(ast.parse(path.read_text(encoding="utf-8"))))
    name = path.relative_to(REPOSITORY).as_posix()
    assert found - EXCEPTIONS.get(name, set()) == set(), name


def test_no_exception_is_kept_for_nothing() -> None:
    for name, allowed in EXCEPTIONS.items():
        tree = ast.parse((REPOSITORY / name).read_text(encoding="utf-8"))
        assert allowed == set(unsafe(tree)), name


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import pickle", "import pickle"),
        ("from dill import loads", "import dill"),
        ("import joblib.numpy_pickle", "import joblib"),
        ("eval(text)", "eval"),
        ("exec(compile(a, b, 'exec'))", "exec"),
        ("__import__(name)", "__import__"),
        ("torch.load(path)", "torch.load without weights_only=True"),
        ("torch.load(path, weights_only=False)", "torch.load without weights_only=True"),
        ("torch.load(path, weights_only=flag)", "torch.load without weights_only=True"),
        ("np.load(path, allow_pickle=True)", "numpy.load with pickles"),
        ("numpy.load(path, allow_pickle=flag)", "numpy.load with pickles"),
        ("yaml.load(text)", "yaml.load"),
        ("yaml.unsafe_load(text)", "yaml.unsafe_load"),
        ("importlib.import_module(name)", "import_module"),
        ("AutoModelForCausalLM.from_pretrained(path, trust_remote_code=False)", "a model that may"),
        ("AutoTokenizer.from_pretrained(path)", "trust_remote_code"),
        ("AutoTokenizer.from_pretrained(path, trust_remote_code=True)", "trust_remote_code"),
        ("AutoConfig.from_pretrained(path, trust_remote_code=other)", "trust_remote_code"),
        ("datasets.load_dataset(name, trust_remote_code=True)", "trust_remote_code"),
        ("subprocess.run(line, shell=True)", "a shell"),
        ("os.system(line)", "a shell"),
        ("jinja2.Environment(loader=a)", "templates that do not escape"),
    ],
)
def test_unsafe_calls_are_found(code: str, words: str) -> None:
    assert any(one.startswith(words) for one in unsafe(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "torch.load(path, weights_only=True)",
        "np.load(path)",
        "np.load(path, mmap_mode='r', allow_pickle=False)",
        "yaml.safe_load(text)",
        "model.eval()",
        "re.compile(x)",
        "AutoTokenizer.from_pretrained(path, trust_remote_code=config.trust_remote_code)",
        "AutoTokenizer.from_pretrained(path, trust_remote_code=False)",
        "subprocess.run(['git', 'describe'])",
        "Environment(loader=a, autoescape=True)",
    ],
)
def test_safe_calls_are_not(code: str) -> None:
    assert list(unsafe(ast.parse(code))) == []


def test_remote_code_is_not_trusted_unless_asked_for() -> None:
    assert ModelConfig().trust_remote_code is False
    for path in sorted((REPOSITORY / "conf").rglob("*.yaml")):
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert "trust_remote_code" not in yaml.safe_dump(values), path
