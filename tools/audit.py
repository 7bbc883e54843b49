"""Known faults of the installed packages, by pip-audit: exit code 1 where there are any.

Without a way to the advisories nothing is known: that is told, and is no failure.
"""

from __future__ import annotations

import json
import subprocess
import sys

COMMAND = [sys.executable, "-m", "pip_audit", "--skip-editable", "--progress-spinner", "off"]


def main() -> int:
    """Tell what was found."""
    ran = subprocess.run([*COMMAND, "--format", "json"], capture_output=True, text=True)
    try:
        packages = json.loads(ran.stdout)["dependencies"]
    except (ValueError, LookupError):
        lines = ran.stderr.strip().splitlines()
        print(f"audit: skipped, pip-audit gave no answer ({lines[-1] if lines else 'no output'})")
        return 0
    audited = [package for package in packages if "vulns" in package]
    faulty = [package for package in audited if package["vulns"]]
    for package in faulty:
        for found in package["vulns"]:
            way_out = ", ".join(found["fix_versions"]) or "no version yet"
            print(f"{package['name']} {package['version']}: {found['id']}; fixed in {way_out}")
    if not audited:
        print(f"audit: skipped, no advisories could be read for any of {len(packages)} packages")
    else:
        print(f"audit: {len(faulty)} of {len(audited)} packages with known faults")
    return bool(faulty)


if __name__ == "__main__":
    sys.exit(main())
