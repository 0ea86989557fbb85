"""What `send_to_slurm` does with each kind of answer: refusals, lost answers, limits, several clusters, aggregators."""

import re
from pathlib import Path

import pytest
from submitit.core.utils import DelayedSubmission
from support.small_runs import small_config

from dc_hpc.config.grid import Resources
from dc_hpc.errors import InputError
from dc_hpc.experiment import provenance
from dc_hpc.experiment.execution import Execution
from dc_hpc.scheduler import slurm, submissions
from dc_hpc.scheduler.site import Site
from dc_hpc.scheduler.submitting import command, grids, sbatch, search
from dc_hpc.scheduler.submitting.cancelling import idle_aggregators, living_tasks
from dc_hpc.scheduler.submitting.command import Answer
from dc_hpc.scheduler.submitting.grids import GridRequest, send_to_slurm
from dc_hpc.storage.run_directory import run_id

TIMED_OUT = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"


class Slurm:
    """A scheduler that a test scripts. answers: of sbatch, in order; then it accepts. state, node: of new tasks.

    shown_after: the looks that do not show a new job yet. most: the size of an array. name: of the cluster.
    """

    def __init__(self):
        self.answers, self.state, self.node, self.reason = [], "PENDING", "", "None"
        self.queue, self.asked, self.scripts, self.slept = [], [], [], []
        self.shown_after, self.most, self.number, self.name = 0, 1001, 100, "alpha"

    def __call__(self, asked, *, seconds=30.0):
        self.asked.append(list(asked))
        if asked[0] == "sbatch":
            return self._sbatch(asked)
        if asked[0] == "squeue":
            self.shown_after -= 1
            cluster = asked[2] if "-M" in asked else ""
            return Answer(0, "\n".join(row for at, row in self.queue if at == cluster) if self.shown_after < 0 else "")
        if asked[0] == "scancel":
            gone = set(asked[1:])
            self.queue = [one for one in self.queue if not gone & {_id(one[1]), one[1].split("|")[0]}]
        config = f"ClusterName             = {self.name}\nMaxArraySize = {self.most}\n"
        return Answer(0, config if "config" in asked else "")

    def _sbatch(self, asked):
        self.scripts.append(Path(asked[-1]).read_text())
        answer = self.answers.pop(0) if self.answers else Answer(0, "Submitted batch job {number}")
        self.number += 1
        if answer.code != 1 or "accepted" in answer.out:
            array = re.search("--array=0-([0-9]+)", self.scripts[-1])
            name, cluster = asked[1].partition("=")[2], (re.findall("on cluster (.*)", answer.out) or [""])[0]
            for index in range(int(array[1]) + 1) if array else ("N/A",):
                row = (self.number, index, self.number, self.state, self.reason, "N/A", "N/A", self.node, name)
                self.queue.append((cluster, "|".join(map(str, row))))
        return Answer(answer.code, answer.out.format(number=self.number), answer.err)

    def sent(self):
        return [one for one in self.asked if one[0] == "sbatch"]


def _id(row):
    array, index = row.split("|")[:2]
    return array if index == "N/A" else f"{array}_{index}"


@pytest.fixture
def scripted(monkeypatch):
    one = Slurm()
    monkeypatch.setattr(command, "run", one)
    monkeypatch.setattr(slurm.shutil, "which", lambda name: None)
    monkeypatch.setattr(provenance, "code_record", dict)
    for module in (search, sbatch):
        monkeypatch.setattr(module.time, "sleep", one.slept.append)
    return one


@pytest.fixture
def send(tmp_path, digits_root, scripted, capsys):
    made = {run_id(one): one for one in (small_config(digits_root, seed=seed) for seed in range(1, 6))}

    def sent(count=3, site=None, aggregate=(), **resources):
        some = {name: made[name] for name in list(made)[:count]}
        request = GridRequest("grid", Resources(**{"minutes": 5, **resources}), some)
        send_to_slurm(
            [request],
            Execution("data"),
            site=site or Site(cpus=1),
            outputs=tmp_path / "outputs",
            names=list(some),
            aggregate=aggregate,
        )
        return capsys.readouterr().out

    return sent


def records(tmp_path):
    return submissions.read_all(tmp_path / "outputs")


def pickles(tmp_path):
    return sorted(path.name for path in (tmp_path / "outputs" / "slurm" / "grid").glob("*.pkl"))


def test_the_name_is_on_the_command_line_and_in_the_script(send, scripted, tmp_path):
    send(aggregate=None)
    (asked,), (one,) = scripted.sent(), records(tmp_path)
    assert asked == ["sbatch", f"--job-name={one.name}", f"{one.folder}/{one.name}.sh"]
    assert f"#SBATCH --job-name={one.name}\n" in scripted.scripts[0]
    before, command_line = scripted.scripts[0].rsplit("\nsrun ", 1)
    assert "export SLURM_EXPORT_ENV=ALL" in before and "submitit.core._submit" in command_line
    assert one.job == "101" and one.accepted and pickles(tmp_path) == [f"101_{i}_submitted.pkl" for i in range(3)]


def test_a_second_call_sends_nothing_and_looks_until_the_queue_shows_the_first(send, scripted):
    send()
    scripted.shown_after = 4
    out = send()
    assert len(scripted.sent()) == 2 and scripted.slept == [1, 2, 4, 8]
    assert "3 of these runs are in the queue or done by now" in out and "looking again for up to 31 s" in out


def test_a_job_that_left_the_queue_is_sent_again_after_the_looks(send, scripted, tmp_path):
    send(aggregate=None)
    scripted.queue.clear()
    send(aggregate=None)
    assert len(scripted.sent()) == 2 and scripted.slept == [1, 2, 4, 8, 8, 8]
    assert [one.left for one in records(tmp_path)] == [True, False]


def test_task_files_that_a_dying_submit_did_not_write_are_written_by_the_next(send, scripted, tmp_path):
    """The record has the number, and a task without a file can only fail. An ended task needs none any more."""
    send(aggregate=None, site=Site(cpus=1, signal_delay=60))
    folder = tmp_path / "outputs" / "slurm" / "grid"
    before = [DelayedSubmission.load(folder / name).function for name in pickles(tmp_path)]
    for name in pickles(tmp_path):
        (folder / name).unlink()
    scripted.queue[2] = ("", scripted.queue[2][1].replace("PENDING", "COMPLETED").replace("||", "|n1|"))
    send(aggregate=None)
    assert pickles(tmp_path) == ["101_0_submitted.pkl", "101_1_submitted.pkl", "102_submitted.pkl"]
    made = [DelayedSubmission.load(folder / name).function for name in pickles(tmp_path)[:2]]
    assert made == before[:2] and made[0].signal_delay == 60


def test_what_sbatch_refused_is_no_job_though_squeue_lists_it(send, scripted, tmp_path):
    """More GPUs than any node has: exit 1, and FAILED in squeue for over a minute, with no node."""
    scripted.state, scripted.reason = "FAILED", "BadConstraints"
    words = "sbatch: error: Batch job submission failed: Requested node configuration is not available"
    scripted.answers = [Answer(1, "accepted", words)]
    with pytest.raises(InputError, match="Requested node configuration is not available.*BadConstraints") as refused:
        send()
    assert str(refused.value).startswith("sbatch refused: ") and len(scripted.sent()) == 1
    assert records(tmp_path)[0].job == "" and pickles(tmp_path) == []


def test_a_job_that_ends_without_a_node_after_exit_0_is_refused_too(send, scripted, tmp_path):
    scripted.state, scripted.reason = "FAILED", "BadConstraints"
    with pytest.raises(InputError, match=r"job 101 is FAILED \(BadConstraints\) without a node"):
        send(aggregate=None)
    assert records(tmp_path)[0].job == ""


@pytest.mark.parametrize(
    "answer, says",
    [
        (Answer(1, "[*] FAILED: the allocation has expired"), "the allocation has expired"),
        (Answer(1), "it said nothing and ended with exit code 1"),
        (Answer(1, "", "gr�e is no account"), "is no account"),
    ],
)
def test_a_refusal_has_the_words_of_either_stream(send, scripted, answer, says):
    scripted.answers = [answer]
    with pytest.raises(InputError, match=re.escape(says)):
        send()
    assert scripted.slept == []


def test_an_answer_that_was_lost_is_not_sent_again(send, scripted, tmp_path):
    """The queue shows the job ten seconds late."""
    scripted.answers, scripted.shown_after = [Answer(1, "accepted", TIMED_OUT)], 5
    send(aggregate=None)
    assert len(scripted.sent()) == 1 and scripted.slept == [1, 2, 4, 8]
    assert records(tmp_path)[0].job == "101" and len(pickles(tmp_path)) == 3


def test_a_request_that_was_lost_is_sent_again_after_the_looks(send, scripted, tmp_path):
    scripted.answers = [Answer(1, "", TIMED_OUT)]
    send(aggregate=None)
    assert len(scripted.sent()) == 2 and sum(scripted.slept) == 31 + 1
    assert records(tmp_path)[0].job == "102" and scripted.sent()[0][1] == scripted.sent()[1][1]


def test_a_controller_that_stays_away(send, scripted, tmp_path):
    scripted.answers = [Answer(1, "", "Unable to contact slurm controller (connect failure)")] * 9
    with pytest.raises(InputError, match="SLURM is busy or away .*connect failure.*; run the same command again"):
        send()
    assert len(scripted.sent()) == sbatch.SENDS and records(tmp_path)[0].job == ""


def test_exit_0_without_a_number_is_found_by_name_and_never_sent_again(send, scripted, tmp_path):
    scripted.answers, scripted.shown_after = [Answer(0, "thank you, this is job 7 of 500")], 3
    send(aggregate=None)
    assert records(tmp_path)[0].job == "101" and len(scripted.sent()) == 1


def test_a_job_without_a_number_that_the_queue_does_not_show_waits_for_the_person(send, scripted, tmp_path):
    scripted.answers, scripted.shown_after = [Answer(0, "thank you")], 1000
    with pytest.raises(InputError, match="without a number .thank you.*: python -m dc_hpc.status forget grid-"):
        send(aggregate=None)
    out = send(aggregate=None)
    assert len(scripted.sent()) == 1 and "3 runs of these wait until SLURM shows it" in out
    (one,) = records(tmp_path)
    assert one.job is None
    submissions.forget(tmp_path / "outputs", one.name)
    send(aggregate=None)
    assert len(scripted.sent()) == 2


def test_a_job_that_slurm_has_twice_is_cancelled_once(send, scripted, tmp_path):
    """The first request was accepted, its answer lost, and the queue showed it only after the second."""
    scripted.answers, scripted.shown_after = [Answer(1, "accepted", TIMED_OUT)], 8
    out = send(aggregate=None)
    assert records(tmp_path)[0].job == "102" and len(pickles(tmp_path)) == 3
    assert ["scancel", "101_0", "101_1", "101_2"] in scripted.asked and "once too often" in out


def test_a_part_of_a_grid_that_was_accepted_is_printed_and_counted(send, scripted, tmp_path, capsys):
    scripted.most = 2
    scripted.answers = [Answer(0, "Submitted batch job {number}"), Answer(1, "", "QOSMaxSubmitJobPerUserLimit")]
    with pytest.raises(InputError) as refused:
        send(5)
    out = capsys.readouterr().out
    assert re.search(r"submitted job 101 \(grid-.*\): 2 tasks", out) and "submitted job 103: the aggregator" in out
    assert str(refused.value) == (
        "2 of 5 runs are in the queue; run the same command later, or give --limit N or more runs_per_task "
        "(sbatch refused the next array: QOSMaxSubmitJobPerUserLimit)"
    )
    assert "--dependency=afterany:101\n" in scripted.scripts[-1]
    send(5)
    assert "--dependency=afterany:101:104:105\n" in scripted.scripts[-1]  # all living jobs of the grid


def test_an_aggregator_that_was_refused_is_queued_by_the_next_call(send, scripted):
    scripted.answers = [Answer(0, "{number}"), Answer(1, "", "AssocMaxSubmitJobLimit")]
    with pytest.raises(InputError, match="3 runs are in the queue, and the aggregator is not.*; the next call"):
        send()
    assert "submitted job 103: the aggregator" in send()
    assert "aggregator" not in send() and len(scripted.sent()) == 3


def test_the_cluster_that_sbatch_names_is_asked(send, scripted, tmp_path):
    scripted.answers = [Answer(0, "Submitted batch job {number} on cluster inter")]
    send(aggregate=None, site=Site(cpus=1, extra={"clusters": "inter"}))
    assert records(tmp_path)[0].cluster == "inter"
    assert all(one[1:3] == ["-M", "inter"] for one in scripted.asked if one[0] in ("squeue", "scontrol"))
    send(aggregate=None, site=Site(cpus=1))
    assert len(scripted.sent()) == 1
    with pytest.raises(InputError, match="names several clusters; name one"):
        send(site=Site(cpus=1, extra={"clusters": "a,b"}))


def test_runs_that_wait_on_another_cluster_are_not_sent_to_this_one(send, scripted, tmp_path):
    send(aggregate=None)
    elsewhere, scripted.queue, scripted.name = scripted.queue, [], "beta"
    out = send(4, aggregate=None)
    (before, sent) = records(tmp_path)
    assert (before.cluster_name, before.left, before.job) == ("alpha", False, "101") and len(sent.run_names()) == 1
    assert "it is job 101 of cluster alpha, whose queue cannot be seen from here; 3 runs of these wait for it." in out
    assert f"python -m dc_hpc.status forget {before.name}" in out and scripted.slept == []
    scripted.queue, scripted.name = elsewhere, "alpha"
    assert "cannot be seen" not in send(aggregate=None) and len(scripted.sent()) == 2
    scripted.queue, scripted.name = [], "beta"
    submissions.forget(tmp_path / "outputs", before.name)
    send(aggregate=None)
    assert len(records(tmp_path)[-1].run_names()) == 3


def test_a_task_that_ended_on_another_cluster_holds_no_run_back(send, scripted, tmp_path):
    """submitit writes the result of a task when it ends; here a run of it failed."""
    send(aggregate=None)
    (tmp_path / "outputs" / "slurm" / "grid" / "101_1_0_result.pkl").touch()
    scripted.queue, scripted.name = [], "beta"
    assert "2 runs of these wait for it" in send(aggregate=None)
    assert records(tmp_path)[-1].run_names() == records(tmp_path)[0].run_names()[1:2]


def test_a_lost_answer_of_another_cluster_stays_open(send, scripted, tmp_path):
    send(aggregate=None)
    (one,) = records(tmp_path)
    submissions.write(tmp_path / "outputs", submissions.replace(one, job=None, accepted=False))
    scripted.queue, scripted.name = [], "beta"
    assert "it is a job of cluster alpha" in send(aggregate=None)
    assert records(tmp_path)[0].job is None and len(scripted.sent()) == 1


def test_nothing_is_sent_under_a_lock_that_was_lost(send, scripted, monkeypatch):
    def lost(self):
        raise InputError("somebody else's by now")

    monkeypatch.setattr(grids.HeldLock, "check", lost)
    with pytest.raises(InputError, match="somebody else's"):
        send()
    assert scripted.sent() == []


def test_cancel_reaches_every_task_of_a_run_and_an_aggregator_without_jobs(send, scripted, tmp_path):
    send()
    known, tasks = records(tmp_path), slurm.tasks()
    first, second = known[0].runs[0][0], known[0].runs[1][0]
    again = submissions.replace(known[0], name="grid-again", job="200", runs=((first,),))
    tasks = [*tasks, slurm.Task("200", "grid-again", 0, "RUNNING", "", "n1")]
    some = living_tasks([first], [*known, again], tasks)
    assert [task.id for task in some] == ["101_0", "200"]
    assert idle_aggregators([first], [*known, again], tasks, some) == []  # others still wait for it
    every = living_tasks([run for one in known for run in one.run_names()], [*known, again], tasks)
    assert [task.id for task in idle_aggregators([second], [*known, again], tasks, every)] == ["102"]
    old = [submissions.replace(one, after=()) for one in known]  # a record of an earlier version
    assert [task.id for task in idle_aggregators([second], old, tasks, every)] == ["102"]


def test_nothing_is_sent_beside_a_job_whose_record_is_damaged(send, scripted, tmp_path):
    """Nobody knows which runs it has, so they would be sent a second time."""
    send(aggregate=None)
    (one,) = records(tmp_path)
    path = submissions.folder_of(tmp_path / "outputs") / f"{one.name}.json"
    path.write_text(path.read_text().replace('"minutes": 5', '"minutes": 6'))
    for _ in range(2):
        with pytest.raises(InputError, match=f"record of job {one.name} .* is damaged or .*scancel --name={one.name}"):
            send(aggregate=None)
    assert len(scripted.sent()) == 1
    scripted.queue.clear()
    send(aggregate=None)
    assert len(scripted.sent()) == 2
