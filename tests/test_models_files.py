"""Names, paths and GGUF headers."""

import os
import struct
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eot.errors import InputError, UnknownNameError, WeightsError
from local_models import CATALOGUE, locate, own_path
from local_models.gguf_header import read_header
from local_models.threads import default_threads


def text(value):
    return struct.pack("<Q", len(value.encode())) + value.encode()


def gguf(*pairs, version=3):
    return b"GGUF" + struct.pack("<IQQ", version, 0, len(pairs)) + b"".join(pairs)


def string(key, value):
    return text(key) + struct.pack("<I", 8) + text(value)


def number(key, value):
    return text(key) + struct.pack("<II", 4, value)


def strings(key, values):
    return text(key) + struct.pack("<IIQ", 9, 8, len(values)) + b"".join(map(text, values))


def test_every_entry_can_be_checked_and_fetched():
    for name, model in CATALOGUE.items():
        assert model.name == name
        assert len(bytes.fromhex(model.sha256)) == 32
        assert model.bytes > 10**7
        assert model.hub.file.endswith(model.file)
        assert model.mirror.packages
        assert bool(model.companions) == (model.kind == "folder")


def test_a_model_under_terms_shows_them():
    assert "Terms" in CATALOGUE["gemma-3-270m"].terms
    assert not CATALOGUE["gemma-3-270m"].chat


def test_a_catalogue_model_that_is_not_here_says_how_to_bring_it(tmp_path):
    with pytest.raises(WeightsError, match="eot models pull smollm2-135m"):
        locate("smollm2-135m", tmp_path)


def test_a_gguf_of_the_users_own_is_found_by_its_path(tmp_path):
    file = tmp_path / "mine.gguf"
    file.write_bytes(gguf(string("general.architecture", "llama")))
    assert locate(str(file), tmp_path) == file


def test_a_folder_of_safetensors_is_found_by_its_path(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert own_path(str(tmp_path)) == tmp_path


@pytest.mark.parametrize("name", ["nowhere.gguf", "./nowhere", "~/nowhere"])
def test_a_path_with_nothing_usable_is_said_to_be_that(name, tmp_path):
    with pytest.raises(InputError, match="neither a GGUF file nor a folder"):
        locate(name, tmp_path)


def test_a_file_that_only_has_the_name_of_a_gguf_is_refused(tmp_path):
    file = tmp_path / "page.gguf"
    file.write_text("<html>404</html>")
    with pytest.raises(InputError, match="neither"):
        locate(str(file), tmp_path)


def test_a_word_that_is_no_path_is_a_typo(tmp_path):
    with pytest.raises(UnknownNameError, match="gemma-3-270m"):
        locate("gemma-3-270b", tmp_path)


def test_scalars_and_strings_are_read_past_arrays(tmp_path):
    file = tmp_path / "a.gguf"
    file.write_bytes(
        gguf(
            string("general.architecture", "qwen2"),
            strings("tokenizer.ggml.tokens", ["a", "好", ""]),
            text("scores") + struct.pack("<IIQ3f", 9, 6, 3, 1, 2, 3),
            text("nested") + struct.pack("<IIQ", 9, 9, 1) + struct.pack("<IQ2H", 2, 2, 7, 8),
            number("qwen2.context_length", 32_768),
        )
    )
    assert read_header(file) == {"general.architecture": "qwen2", "qwen2.context_length": 32_768}


@given(cut=st.integers(min_value=0, max_value=200))
def test_a_header_that_is_cut_off_is_refused_wherever_it_is_cut(tmp_path_factory, cut):
    whole = gguf(string("general.architecture", "llama"), strings("tokens", ["ab"] * 8), number("llama.x", 1))
    file = tmp_path_factory.mktemp("cut") / "a.gguf"
    file.write_bytes(whole[: min(cut, len(whole) - 1)])
    with pytest.raises(WeightsError, match="not a sound GGUF"):
        read_header(file)


@pytest.mark.parametrize("damage", [gguf(version=9), gguf(text("k") + struct.pack("<I", 77)), b"GGML" + bytes(40)])
def test_a_header_of_another_kind_is_refused(tmp_path, damage):
    file = tmp_path / "a.gguf"
    file.write_bytes(damage)
    with pytest.raises(WeightsError, match="not a sound GGUF"):
        read_header(file)


def test_a_core_that_another_process_keeps_busy_is_left_to_it():
    idle = default_threads()
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        time.sleep(0.5)
        assert default_threads() == 1
        assert idle >= 1
    finally:
        for other in others:
            other.kill()
            other.wait()
