"""Log folders at URLs: recorded here, uploaded when the run has ended, read from there. Against a real S3 server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import profkit
from profkit import remote, staging, urls
from profkit.cli.main import main
from profkit.errors import MissingDependency, UnreadableTrace, UploadError, UsageError
from profkit.runfolder import PROFKIT_FOLDER, RankFolder, recorded_ranks
from tests import traces
from tests.live_tensorboard import tensorboard, until
from tests.object_store import BUCKET, object_store, without_tensorflow
from tests.test_tensorboard_plugin import ROOT

fsspec = pytest.importorskip("fsspec")
pytest.importorskip("s3fs")
fsspec.asyn.get_loop()  # fsspec's own thread, which stays for good: here, before any test

RunPython = Callable[..., subprocess.CompletedProcess[str]]
STEPS = 8
TRAINING = """
import os, sys, time
import profkit
with profkit.profile(sys.argv[1], hooks=[], quiet=True) as run:
    for number in range(8):
        run.step()
    if len(sys.argv) > 2:
        print(run.folder, flush=True)
        time.sleep(60)
assert not {"fsspec", "polars"} & set(sys.modules)
print(run.url)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with object_store() as address:
        yield address


@pytest.fixture
def store(server: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The S3 server as fsspec and every child process find it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    return fsspec.filesystem("s3", skip_instance_cache=True)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where local copies are."""
    monkeypatch.setenv(staging.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    return tmp_path / "cache"


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A log folder of this test's own."""
    return f"s3://{BUCKET}/{tmp_path.name}/runs"


def recorded(logdir: str | Path, **options: Any) -> profkit.run.profile:
    """A run of some steps, closed."""
    with profkit.profile(logdir, hooks=[], sidecar=False, quiet=True, **options) as run:
        for _ in range(STEPS):
            run.step()
    return run


def names(folder: Path) -> set[str]:
    """The files of a run that belong to it, wherever it is."""
    own = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {name for name in own if not name.startswith("plugins/profkit/upload/") and "/.lock" not in name}


def there(store: Any, url: str) -> set[str]:
    """The files of a run in the store."""
    store.invalidate_cache()
    root = url.removeprefix("s3://")
    return {path.removeprefix(f"{root}/") for path in store.find(root)}


def python(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> str:
    """What a process printed, which ended well."""
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return out.strip()


def test_the_sidecar_uploads_and_the_training_imports_no_fsspec(store: Any, url: str, cache: Path) -> None:
    run_url = ended(python("-c", TRAINING, url))
    assert run_url.startswith(f"{url}/2")
    assert not list(cache.rglob("*.pkrec")), "the local copy is gone"
    run = profkit.load(run_url)
    assert (run.steps.height, run.info.ended) == (STEPS, "finished")
    assert profkit.load(url).info == run.info, "of a log folder the newest run is taken"


def test_everything_arrives_but_what_is_this_machines_own(store: Any, url: str) -> None:
    run = recorded(url, keep_local=True)
    assert run.url is not None
    assert there(store, run.url) == names(run.folder)
    assert any(name.endswith(".pkrec") for name in there(store, run.url))
    assert not staging.unsent(run.folder)


def test_reports_and_queries_read_the_store_and_fetch_no_capture(
    store: Any, url: str, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = recorded(url)
    assert main(["sql", url, "select count(*) as n from steps", "--csv"]) == 0
    assert capsys.readouterr().out.split() == ["n", str(STEPS)]
    fetched = {path.name for path in cache.rglob("*.parquet")} | {p.parent.name for p in cache.rglob("*.parquet")}
    assert "steps" in fetched
    assert "spans.parquet" not in fetched, "a query fetches the tables it names"
    assert main(["report", str(run.url), "--json"]) == 0
    assert f'"steps":{STEPS}' in capsys.readouterr().out
    assert not list(cache.rglob("*.pkrec"))
    assert not list(cache.rglob("events.out*"))


def test_what_was_fetched_is_not_fetched_again_until_it_changes(store: Any, url: str) -> None:
    run = recorded(url, keep_local=True)
    copy = remote.fetched(str(run.url))
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*.json")}
    assert len(before) > 2
    remote.fetched(str(run.url))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    info = RankFolder(run.folder / PROFKIT_FOLDER, 0).info
    info.write_bytes(info.read_bytes().replace(b'"finished"', b'"Finished"'))
    remote.upload(run.folder)
    assert profkit.load(str(run.url)).info.ended == "Finished"


def test_tensorboard_shows_the_uploaded_run(store: Any, server: str, url: str, tmp_path: Path) -> None:
    run = recorded(url)
    surroundings = {"S3_ENDPOINT": server, "PYTHONPATH": f"{without_tensorflow(tmp_path / 'bare')}:{_python_path()}"}
    with tensorboard(url, **surroundings) as ask:
        until(lambda: ask(f"{ROOT}/runs"), bool)
        assert ask(f"{ROOT}/page?run={run.folder.name}")["report"]["steps"] == STEPS


def _python_path() -> str:
    return os.environ.get("PYTHONPATH", "")


def test_event_files_go_last(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    class Watched:
        def find(self, root: str, detail: bool) -> dict[str, Any]:
            return {}

        def put(self, sources: list[str], targets: list[str]) -> None:
            order.extend(targets)

    monkeypatch.setattr(remote, "TOGETHER", 3)
    monkeypatch.setattr(remote, "_store", lambda url: (Watched(), "root"))
    recorded(url)
    events = [staging.EVENT_FILE in name for name in order]
    assert events == sorted(events)
    assert events[-1]
    assert not events[0]


KILLED = """
import os, signal, sys
from pathlib import Path
from profkit import remote
remote.TOGETHER = 1
add, lots = remote.Progress.add, []
def killed_after_four(progress, count):
    lots.append(count)
    if len(lots) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
remote.Progress.add = killed_after_four
remote.upload(Path(sys.argv[1]))
"""


def test_a_killed_upload_goes_on_where_it_was(
    store: Any, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = recorded(tmp_path / "here").folder
    staging.write(folder, staging.Manifest(url=f"{url}/{folder.name}"))
    everything = len(staging.unsent(folder))
    killed = python("-c", KILLED, str(folder))
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert len(there(store, f"{url}/{folder.name}")) == 4
    assert remote.upload(folder) == everything - 4
    assert there(store, f"{url}/{folder.name}") == names(folder)
    assert remote.upload(folder) == 0


def test_what_changed_or_went_missing_is_sent_again_and_nothing_else(store: Any, url: str) -> None:
    run = recorded(url, keep_local=True)
    own = RankFolder(run.folder / PROFKIT_FOLDER, 0)
    assert remote.upload(run.folder) == 0
    own.summary.write_bytes(own.summary.read_bytes())
    assert remote.upload(run.folder) == 1
    store.rm(f"{str(run.url).removeprefix('s3://')}/plugins/profkit/steps/rank=0.parquet")
    assert remote.upload(run.folder) == 1
    assert there(store, str(run.url)) == names(run.folder)


def test_a_store_that_is_down_costs_nothing_and_the_command_said_resumes(
    url: str, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    run = recorded(url)
    (said,) = capsys.readouterr().err.splitlines()
    assert f"not uploaded to {run.url}" in said
    assert said.endswith(f"run: profkit upload {run.folder}")
    assert profkit.load(run.folder).steps.height == STEPS
    assert main(["upload", str(run.folder)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(UnreadableTrace, match="cannot be read"):
        profkit.load(url)
    with object_store() as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        assert main(["upload", str(run.folder)]) == 0
        assert capsys.readouterr().out.strip() == run.url
        assert not run.folder.exists()
        assert profkit.load(str(run.url)).steps.height == STEPS


def test_a_bucket_that_does_not_exist_is_not_made(
    store: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = recorded("s3://nobodys-bucket/runs")
    (said,) = capsys.readouterr().err.splitlines()
    assert "not uploaded to s3://nobodys-bucket/runs/" in said
    assert "bucket" in said.split("(")[1].lower()
    assert run.folder.is_dir()
    assert not store.exists("nobodys-bucket")
    with pytest.raises(UploadError, match="nobodys-bucket"):
        remote.upload(run.folder)


def test_ranks_upload_into_one_run_and_leave_no_copy(store: Any, url: str, cache: Path) -> None:
    job = {"WORLD_SIZE": "2", "MASTER_ADDR": "here", "MASTER_PORT": str(os.getpid()), "LOCAL_WORLD_SIZE": "2"}
    ranks = [python("-c", TRAINING, url, RANK=str(rank), **job) for rank in (0, 1)]
    first, second = (ended(process) for process in ranks)
    assert first == second
    deadline = time.monotonic() + 30
    while list(cache.rglob("*.pkrec")) and time.monotonic() < deadline:
        time.sleep(0.05)  # the other rank's sidecar may be at it still
    assert not list(cache.rglob("*.pkrec"))
    run = profkit.load(first)
    assert run.ranks == (0, 1)
    assert [run.of_rank(rank).steps.height for rank in run.ranks] == [STEPS, STEPS]
    assert run.sql("select rank, count(*) from steps group by rank order by rank").rows() == [(0, STEPS), (1, STEPS)]
    state = {name for name in there(store, first) if "finalised/" in name}
    assert {name.rpartition("/")[2] for name in state} == {"rank=0.json", "rank=1.json", "ranks.json"}


JOB = {"WORLD_SIZE": "2", "MASTER_ADDR": "here", "MASTER_PORT": "7"}


def recorded_on(machine: Path, rank: int, url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of the run of one rank of a job, on a machine with a cache of its own."""
    for name, value in {**JOB, "RANK": str(rank), staging.CACHE_VARIABLE: str(machine)}.items():
        monkeypatch.setenv(name, value)
    return str(recorded(url).url)


def test_machines_of_one_job_upload_into_one_run(
    store: Any, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(remote, "CLAIM_S", 0.0)
    first, second = (recorded_on(tmp_path / str(rank), rank, url, monkeypatch) for rank in (0, 1))
    assert first == second
    run = profkit.load(first)
    assert [run.of_rank(rank).steps.height for rank in run.ranks] == [STEPS, STEPS]
    assert not list(tmp_path.rglob("*.pkrec"))
    assert main(["report", first, "--json"]) == 0
    assert f'"steps":{STEPS}' in capsys.readouterr().out


def test_a_jobs_second_run_is_another_one(
    store: Any, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "CLAIM_S", 0.0)
    first, second = (recorded_on(tmp_path / "one", 0, url, monkeypatch) for _ in range(2))
    assert first != second


def test_machines_that_upload_at_the_same_moment_agree(store: Any, url: str, tmp_path: Path) -> None:
    """None of them sees another's run before it has begun its own."""
    root = f"{BUCKET}/{tmp_path.name}/runs"
    names_ = ("20260101T000002Z-bbbbbb", "20260101T000001Z-aaaaaa")
    claimed = threading.Barrier(2)

    class AtOnce:
        """The store, with a machine's first look before the other's claim."""

        def __init__(self) -> None:
            self._looks = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def ls(self, path: str, detail: bool) -> Any:
            store.invalidate_cache()
            found = store.ls(path, detail=detail) if self._looks else []
            self._looks += 1
            return found

        def pipe_file(self, path: str, content: bytes) -> None:
            store.pipe_file(path, content)
            claimed.wait(30)

    def taken(name: str, rank: int) -> str:
        own = RankFolder(tmp_path / name / PROFKIT_FOLDER, rank)
        own.info.parent.mkdir(parents=True)
        own.info.write_text('{"world_size": 2}')
        (own.folder / "job").write_text("key")
        return remote._shared(AtOnce(), f"{root}/{name}", own.run_folder)

    with ThreadPoolExecutor(2) as machines:
        taking = [machines.submit(taken, name, rank) for rank, name in enumerate(names_)]
        assert {future.result(60) for future in taking} == {f"{root}/{min(names_)}"}
    store.invalidate_cache()
    assert store.find(root) == [f"{root}/{min(names_)}/plugins/profkit/job"]


def test_of_a_rank_that_goes_on_nothing_is_sent_and_its_copy_stays(store: Any, url: str) -> None:
    run = recorded(url, keep_local=True)
    own = run.folder / PROFKIT_FOLDER
    other = own / "capture" / "host-1-77-0123abcd.pkrec"
    other.write_bytes(b"")
    (own / "capture" / "window-0-rank-1.pt.trace.json").write_bytes(b"{")
    half_written = own / "trace" / "window=0" / ".rank=1.part" / "spans.parquet"
    half_written.parent.mkdir()
    half_written.write_bytes(b"PAR1")
    assert recorded_ranks(own) == (0, 1)
    assert not staging.unsent(run.folder)
    assert not staging.clear(run.folder), "it is to be kept"


def test_a_copy_with_a_rank_that_was_not_finalised_is_never_removed(store: Any, url: str) -> None:
    """Its files are not sent yet, and nobody says that it is still there."""
    run = recorded(url, keep_local=True)
    own = RankFolder(run.folder / PROFKIT_FOLDER, 1)
    capture = own.capture / "host-1-77-0123abcd.pkrec"
    capture.write_bytes(b"")
    assert not staging.clear(run.folder, even_kept=True)
    assert staging.is_unsent(own)
    assert not staging.is_unsent(RankFolder(own.folder, 0))
    capture.unlink()
    assert staging.clear(run.folder, even_kept=True)
    assert not run.folder.exists()


def test_a_training_that_is_killed_is_uploaded_by_its_sidecar(store: Any, url: str, cache: Path) -> None:
    with python("-c", TRAINING, url, "stay") as training:
        assert training.stdout is not None
        folder = Path(training.stdout.readline().strip())
        training.kill()
    deadline = time.monotonic() + 30
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not folder.exists()
    run = profkit.load(f"{url}/{folder.name}")
    assert (run.steps.height, run.info.ended) == (STEPS, "without notice")


def test_a_run_recorded_here_is_uploaded_and_stays(
    store: Any, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = recorded(tmp_path / "here")
    assert main(["upload", str(run.folder)]) == 2
    assert "name a log folder with --to" in capsys.readouterr().err
    assert main(["upload", str(run.folder), "--to", url]) == 0
    assert capsys.readouterr().out.strip() == f"{url}/{run.folder.name}"
    assert run.folder.exists()
    assert there(store, f"{url}/{run.folder.name}") == names(run.folder)
    assert main(["upload", str(tmp_path)]) == 2
    assert "no run" in capsys.readouterr().err


def test_anybodys_trace_is_read_from_the_store(
    store: Any, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    native = traces.written(tmp_path, [traces.step(0, 0, 100), traces.op("aten::mm", 5, 90)])
    store.put(str(native), f"{url}/{native.name}".removeprefix("s3://"))
    for place in (f"{url}/{native.name}", url):
        assert main(["report", place]) == 0
        assert "aten::mm" in capsys.readouterr().out


def test_what_is_not_there_gets_one_sentence(store: Any, url: str) -> None:
    with pytest.raises(UnreadableTrace, match=r"holds no profkit run and no file|cannot be read"):
        profkit.load(f"{url}/nothing")


def test_the_command_prints_its_report_and_leaves_no_copy(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "train.py").write_text("print('training')")
    target = f"file://{tmp_path}/store"
    printed = ended(python("-m", "profkit", "run", "--logdir", target, "--quiet", "--json", str(tmp_path / "train.py")))
    assert printed.splitlines()[-1].startswith("{")
    assert not list(cache.rglob("*.pkrec"))
    assert list((tmp_path / "store").glob("*/events.out*"))


def test_a_run_in_memory_is_read_from_there(cache: Path) -> None:
    run = recorded("memory://runs")
    assert profkit.load(str(run.url)).steps.height == STEPS
    assert "<div" in run._repr_html_(), "a run whose copy is gone shows what was uploaded"


@pytest.mark.parametrize(
    ("url", "sidecar", "error", "sentence"),
    [
        ("nope://x/runs", True, UsageError, "fsspec knows no 'nope'; it knows .*s3"),
        ("az://x/runs", True, MissingDependency, "needs adlfs; run: pip install adlfs"),
        ("sftp://x/runs", True, MissingDependency, "needs paramiko; run: pip install paramiko"),
        ("memory://runs", True, UsageError, "sidecar=False"),
        ("ftp://me:secret@x/runs", True, UsageError, "must hold no password"),
        ("simplecache::s3://x/runs", True, UsageError, "knows no 'simplecache::s3'"),
    ],
)
def test_a_url_that_cannot_be_uploaded_to_is_refused_at_once(
    url: str, sidecar: bool, error: type[Exception], sentence: str, cache: Path
) -> None:
    with pytest.raises(error, match=sentence) as raised:
        profkit.profile(url, sidecar=sidecar)
    assert "secret" not in str(raised.value)
    assert not cache.exists()


@pytest.mark.parametrize("url", ["s3://b/runs", "s3a://b/runs", "file:///tmp/runs", "http://x/runs", "ftp://me@x/runs"])
def test_a_url_whose_libraries_are_installed_is_not_refused(url: str) -> None:
    assert urls.checked(f"{url}/", sidecar=True) == url


def test_without_fsspec_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urls, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=r"needs fsspec; run: pip install 'profkit\[remote\]'"):
        profkit.profile("s3://bucket/runs")


@pytest.mark.parametrize("place", ["runs", "/tmp/runs", "C:/runs", "./a:b", "s3:/runs"])
def test_a_path_is_no_url(place: str) -> None:
    assert not urls.is_url(place)
    assert urls.location(place) == Path(place)


def test_a_copy_stays_within_the_cache(cache: Path) -> None:
    assert staging.copies("s3://bucket/../../a//b") == cache / "runs" / "s3" / "bucket" / "a" / "b"
