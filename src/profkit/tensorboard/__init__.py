"""profkit's tab in TensorBoard: what its server finds the page's data by."""

from pathlib import Path

PLUGIN, TAG = "profkit", "profkit/page"
FILES = "plugins/profkit/page"  # below the folder of TensorBoard's run
RANKS = "ranks.json.gz"  # among them, below the folder of the first rank
STATIC = Path(__file__).parent / "static"
SCRIPT = STATIC / "index.js"  # the page, built from web/
ON_DEMAND = (STATIC / "loading.js", STATIC / "ranks.js")  # views that the page asks for when they are first looked at
