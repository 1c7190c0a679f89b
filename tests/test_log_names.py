"""Names that callers give, and that may be a person's, are not in the log: custom ids of batches, ids of requests."""

import hashlib
import json
import threading
import time

import httpx
from command import scripted
from serving import process

PERSON = "jane.doe-1970"


def test_a_custom_id_and_a_callers_request_id_are_not_in_the_log(tmp_path):
    scripted(tmp_path, a=["The answer is 7."])
    row = {"custom_id": PERSON, "url": "/v1/runs", "body": {"question": "What is 3 + 4?"}}
    with process(tmp_path, EOT_SERVE__LOG="json") as served:
        log = []
        reading = threading.Thread(target=lambda: log.extend(served.stderr), daemon=True)
        reading.start()
        with httpx.Client(base_url=served.url, headers={"x-request-id": PERSON}, timeout=20) as client:
            files = {"file": ("in.jsonl", json.dumps(row) + "\n")}
            brought = client.post("/v1/files", files=files, data={"purpose": "batch"})
            asked = {"input_file_id": brought.json()["id"], "endpoint": "/v1/runs", "completion_window": "24h"}
            batch = client.post("/v1/batches", json=asked).json()
            ends = time.monotonic() + 30
            while batch["status"] != "completed":
                assert time.monotonic() < ends, batch
                time.sleep(0.1)
                batch = client.get(f"/v1/batches/{batch['id']}").json()
        served.terminate()
        served.wait(20)
        reading.join(10)
    assert brought.headers["x-request-id"] == PERSON
    told = "".join(log)
    assert PERSON not in told
    assert f'"given_{hashlib.sha256(PERSON.encode()).hexdigest()[:16]}"' in told
    assert f'"batch:{batch["id"]}:1"' in told
