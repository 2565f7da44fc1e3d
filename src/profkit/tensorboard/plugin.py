"""The server's side of the page: what the exporters have written, passed on.

Whoever starts TensorBoard imports this module: whatever raises here stops it for everybody. So nothing is imported but
the standard library and what TensorBoard needs itself.
"""

# mypy: disable-error-code="no-any-return,no-untyped-call"
# tensorboard ships no types.

from __future__ import annotations

import mimetypes
import posixpath
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tensorboard import plugin_util
from tensorboard.backend import http_util
from tensorboard.data import provider
from tensorboard.plugins import base_plugin
from werkzeug import wrappers

from profkit.tensorboard import FILES, PLUGIN, RANKS, STATIC, TAG

TYPES = {".js": "text/javascript", ".txt": "text/plain"}  # whatever the machine's own table says

WINDOW = re.compile(r"0|[1-9][0-9]{0,8}")
RANK = re.compile(r"(^|/)rank=[0-9]+$")  # what a run's name ends with that is a rank behind the first

App = Callable[..., Any]


class ProfkitPlugin(base_plugin.TBPlugin):
    """Lists the runs that have a page, and sends pages, reports, timelines and ranks as they were written."""

    plugin_name = PLUGIN  # type: ignore[assignment]  # the base class declares None

    def __init__(self, context: base_plugin.TBContext) -> None:
        super().__init__(context)
        self._data = context.data_provider
        self._logdir = context.logdir or ""

    def is_active(self) -> bool:
        """False: TensorBoard asks its data provider, which knows the tab is needed once a run has a page."""
        return False

    def frontend_metadata(self) -> base_plugin.FrontendMetadata:
        """The tab, and the module that draws it."""
        return base_plugin.FrontendMetadata(es_module_path="/static/index.js", tab_name="profkit")

    def get_plugin_apps(self) -> Mapping[str, App]:
        """Routes below /data/plugin/profkit."""
        routes = {
            "/static/*": self._static,
            "/runs": self._runs,
            "/page": self._page,
            "/report": self._report,
            "/timeline": self._timeline,
            "/ranks": self._ranks,
        }
        return {route: wrappers.Request.application(answer) for route, answer in routes.items()}

    def _static(self, request: wrappers.Request) -> wrappers.Response:
        path = STATIC / posixpath.basename(request.path)
        if not path.is_file():
            return _missing(request, "no such file")
        content_type = TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        return http_util.Respond(request, path.read_bytes(), content_type)

    def _runs(self, request: wrappers.Request) -> wrappers.Response:
        """Every run with a page, and what changes when there is a newer one."""
        runs = [{"run": run, "version": f"{page.max_wall_time}"} for run, page in self._pages(request).items()]
        return http_util.Respond(request, runs, "application/json")

    def _page(self, request: wrappers.Request) -> wrappers.Response:
        run = request.args.get("run", "")
        found = self._data.read_tensors(
            plugin_util.context(request.environ),
            experiment_id=plugin_util.experiment_id(request.environ),
            plugin_name=PLUGIN,
            downsample=1,
            run_tag_filter=provider.RunTagFilter(runs=[run], tags=[TAG]),
        )
        points = found.get(run, {}).get(TAG, ())
        if not points:
            return _missing(request, f"no run {run!r} with a page")
        return _sent(request, points[-1].numpy.item(), "application/json")

    def _report(self, request: wrappers.Request) -> wrappers.Response:
        return self._file(request, "report.json.gz", "application/json")

    def _timeline(self, request: wrappers.Request) -> wrappers.Response:
        return self._file(request, "timeline.gz", "application/octet-stream")

    def _ranks(self, request: wrappers.Request) -> wrappers.Response:
        """All ranks beside each other, whichever of them was asked about."""
        first = RANK.sub("", request.args.get("run", ""))
        return self._stored(request, posixpath.join(first, FILES, RANKS), "application/json", "the ranks")

    def _file(self, request: wrappers.Request, ending: str, content_type: str) -> wrappers.Response:
        """A file of one window."""
        run, window = request.args.get("run", ""), request.args.get("window", "")
        if not WINDOW.fullmatch(window):
            return _missing(request, "no such window")
        path = posixpath.join(run, FILES, f"window={window}.{ending}")
        return self._stored(request, path, content_type, f"window {window}")

    def _stored(self, request: wrappers.Request, path: str, content_type: str, what: str) -> wrappers.Response:
        """A file below the log folder. Nothing of the request becomes part of its path but a known run and a number."""
        run = request.args.get("run", "")
        if run not in self._pages(request):
            return _missing(request, f"no run {run!r} with a page")
        try:
            content = _read(posixpath.join(self._logdir, path))
        except Exception as error:  # of whatever file system it is
            return _missing(request, f"{what} of {run} cannot be read: {error.__class__.__name__}")
        return _sent(request, content, content_type)

    def _pages(self, request: wrappers.Request) -> dict[str, Any]:
        """Run -> what the data provider knows of its page."""
        found = self._data.list_tensors(
            plugin_util.context(request.environ),
            experiment_id=plugin_util.experiment_id(request.environ),
            plugin_name=PLUGIN,
            run_tag_filter=provider.RunTagFilter(tags=[TAG]),
        )
        return {run: tags[TAG] for run, tags in found.items() if TAG in tags}


def _read(path: str) -> bytes:
    """The file at a path, or at a URL of an object store, which TensorBoard's file systems know."""
    if "://" not in path:
        return Path(path).expanduser().read_bytes()
    from tensorboard.compat import tf

    with tf.io.gfile.GFile(path, "rb") as file:
        return file.read()


def _sent(request: wrappers.Request, content: bytes, content_type: str) -> wrappers.Response:
    """What is stored as gzip goes as it is."""
    return http_util.Respond(request, content, content_type, content_encoding="gzip")


def _missing(request: wrappers.Request, sentence: str) -> wrappers.Response:
    return http_util.Respond(request, {"error": sentence}, "application/json", code=404)
