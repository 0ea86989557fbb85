"""Tasks that an older version has put into a queue run with this one."""

import base64
import pickle

from dc_hpc.experiment.execution import Execution
from dc_hpc.scheduler.worker import TaskPayload

# Of 0.1.0: pickle.dumps(Work(("outputs/runs/a",), Execution("data", engine="faiss", threads=2), 2, 3))
QUEUED_BY_0_1_0 = (
    "gASVCwEAAAAAAACMF2RjX2hwYy5zY2hlZHVsZXIud29ya2VylIwEV29ya5STlCmBlH2UKIwLZGlyZWN0b3JpZXOUjA5vdXRwdXRzL3J1bnMvYZSFlIwJ"
    "ZXhlY3V0aW9ulIwbZGNfaHBjLmV4cGVyaW1lbnQuZXhlY3V0aW9ulIwJRXhlY3V0aW9ulJOUKYGUfZQojARkYXRhlGgOjAZkZXZpY2WUjARhdXRvlIwH"
    "dGhyZWFkc5RLAowGZW5naW5llIwFZmFpc3OUjAxzYXZlX3NlY29uZHOUR0BOAAAAAAAAdWKMDXBhcmFsbGVsX3J1bnOUSwKMCGF0dGVtcHRzlEsDjAxz"
    "aWduYWxfZGVsYXmUS1p1Yi4="
)


def test_a_task_of_version_0_1_0_is_unpickled():
    payload = pickle.loads(base64.b64decode(QUEUED_BY_0_1_0))
    execution = Execution("data", threads=2, kmeans_backend="faiss")
    assert payload == TaskPayload(("outputs/runs/a",), execution, parallel_runs=2, attempts=3)


def test_a_task_of_this_version_is_pickled_as_it_is():
    payload = TaskPayload(("outputs/runs/a",), Execution("data", kmeans_backend="sklearn"))
    assert pickle.loads(pickle.dumps(payload)) == payload
