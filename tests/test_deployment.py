"""What docker-compose.yml says is something that `eot` understands."""

from pathlib import Path

import yaml

from eot.settings import load

ROOT = Path(__file__).parents[1]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))


def test_the_settings_of_the_compose_file_are_settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("api", "worker"):
        for variable, value in COMPOSE["services"][name]["environment"].items():
            if variable.startswith("EOT_"):
                monkeypatch.setenv(variable, value)
        serve = load().serve
        assert (serve.store, serve.host, serve.jobs) == ("redis://redis:6379/0", "0.0.0.0", 0)


def test_redis_keeps_what_it_acknowledged_and_is_not_published():
    redis = COMPOSE["services"]["redis"]
    options = dict(zip(redis["command"][1::2], redis["command"][2::2], strict=True))
    assert options == {"--appendonly": "yes", "--appendfsync": "always", "--maxmemory-policy": "noeviction"}
    assert "ports" not in redis


def test_the_image_starts_a_server_that_only_this_machine_reaches_through_compose():
    assert COMPOSE["services"]["api"]["ports"] == ["127.0.0.1:8000:8000"]
    assert 'CMD ["eot", "serve"]' in (ROOT / "Dockerfile").read_text(encoding="utf-8")
