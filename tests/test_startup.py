"""What is not needed is not imported: `eot --help` is quick, and a CPU needs no torch."""

import subprocess
import sys

import pytest

HEAVY = (
    "litellm",
    "torch",
    "transformers",
    "sentence_transformers",
    "xllamacpp",
    "langgraph",
    "huggingface_hub",
    "jieba",
)


def imported_by(code):
    told = f"import sys\n{code}\nprint(*(name for name in {HEAVY!r} if name in sys.modules))"
    return subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True).stdout.split()


def test_the_command_line_imports_nothing_heavy():
    assert imported_by("import api.cli") == []


@pytest.mark.parametrize("package", ["eot.types", "eot.settings", "agents", "scoring", "local_models"])
def test_no_package_loads_a_model_library(package):
    assert imported_by(f"import {package}") == []


def test_a_composed_council_has_loaded_no_model_library_yet():
    code = (
        "from api.compose import House\nfrom api.defaults import with_defaults\nfrom eot.settings import Settings\n"
        "import tempfile, pathlib\nfound = with_defaults(Settings(home=pathlib.Path(tempfile.mkdtemp())), {})\n"
        "import asyncio; asyncio.run(House(found).council(found.councils['default']))"
    )
    assert set(imported_by(code)) <= {"langgraph"}
