"""The lines of docs/http-api.md about tenants and keys are run without changes, against a real server."""

import json
import re
import subprocess
from pathlib import Path

from tests.security.conftest import RunningServer
from tests.support.waiting import GUARD_SECONDS

PAGE = (Path(__file__).parents[2] / "docs/http-api.md").read_text()
OF_OPERATOR, OF_KEYS = re.findall(r"^```bash\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
AFTERWARDS = """
for key in "$KEY" "$DOOR" "$NEW"; do curl -s -o /dev/null -w '%{http_code}\n' -H "X-API-Key: $key" $URL/usage; done
"""


def run(running: RunningServer, script: str) -> str:
    script = script.replace("http://127.0.0.1:8000", running.process.url).replace("fio_...", running.operator_key)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], check=False, capture_output=True, text=True, timeout=GUARD_SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_lines_of_the_page_make_tenants_and_keys(running: RunningServer) -> None:
    printed = run(running, (OF_OPERATOR + OF_KEYS).replace("\ncurl", "\necho; curl") + AFTERWARDS)
    answers = [json.loads(line) for line in printed.splitlines() if line.strip()]
    tenants, tenant, changed, usage, gallery, keys, shown, rotated, *refusals = answers
    assert tenant in tenants["items"]
    assert tenant["quotas"]["maximum_galleries"] == 10
    assert (changed["quotas"]["maximum_galleries"], changed["quotas"]["inferences_per_minute"]) == (None, 600)
    assert (usage["galleries"], usage["quotas"]) == (0, changed["quotas"])
    assert shown == shown | gallery
    assert [(key["name"], key["galleries"]) for key in keys["items"]][1:] == [("front door", ["staff"])]
    assert rotated["key"].startswith("fio_")
    assert refusals == [401, 401, 401]


def test_a_rotated_and_a_revoked_key_behave_as_the_page_says(running: RunningServer) -> None:
    tried = "curl -s -o /dev/null -w '%{http_code}\\n' -H \"X-API-Key: $DOOR\" $URL/galleries/staff\n"
    lines = re.sub(r"(?m)^(?=curl.*DELETE)|^(?=# An operator)", tried, (OF_OPERATOR + OF_KEYS))
    codes = [int(line[-3:]) for line in run(running, lines).splitlines() if re.search(r"(^|\})[0-9]{3}$", line)]
    assert codes == [200, 401, 401]
