"""Says what a make target needs and this machine lacks, and installs what it may. Runs on any Python 3, without packages.

    python3 scripts/need.py python node chromium strace

Exit code 0 when everything is there. A program from Debian's packages is installed when we are root on such a machine
and `apt-get` exists; otherwise the message names the package.
"""

import os
import shutil
import subprocess
import sys

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PYTHON_MIN = (3, 11)
NODE_MIN = 20


def python():
    """Return what is wrong with this Python, or None."""
    if sys.version_info < PYTHON_MIN:
        return "Python %d.%d or newer is needed, this is %d.%d: set PYTHON=python3.12, for example" % (
            *PYTHON_MIN,
            *sys.version_info[:2],
        )
    try:
        import ensurepip  # noqa: F401, PLC0415
        import venv  # noqa: F401, PLC0415
    except ImportError:
        return "Python's venv module is missing: install the package python3-venv"
    return None


def node():
    """Return what is wrong with Node.js, or None."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return (
            "Node.js %d or newer with npm is needed: install the packages nodejs and npm, or from nodejs.org" % NODE_MIN
        )
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.lstrip("v").split(".")[0]) < NODE_MIN:
        return "Node.js %d or newer is needed, this is %s" % (NODE_MIN, version)
    return None


def chromium():
    """Return what is wrong with the browser, or None."""
    if os.environ.get("BROWSER") == "none" or any(map(shutil.which, CHROMIUM_NAMES)):
        return None
    return debian("chromium", "a Chromium is needed for the browser tests (BROWSER=none leaves them out)")


def strace():
    """Return what is wrong with strace, or None."""
    if shutil.which("strace"):
        return None
    return debian("strace", "strace is needed: a test watches the order of write, fdatasync and send")


def debian(package, why):
    """Install a Debian package if we may. Return what to do if not."""
    if os.geteuid() == 0 and shutil.which("apt-get"):
        print("installing the Debian package %s" % package, flush=True)
        quiet = {"stdout": subprocess.DEVNULL, "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}}
        subprocess.run(["apt-get", "update", "-qq"], check=False, **quiet)
        if subprocess.run(["apt-get", "install", "-y", "-qq", package], check=False, **quiet).returncode == 0:
            return None
    return "%s: install the package %s" % (why, package)


CHECKS = {"python": python, "node": node, "chromium": chromium, "strace": strace}


def main(names):
    """Check each name; print what is missing."""
    missing = [message for message in (CHECKS[name]() for name in names) if message]
    for message in missing:
        print("tutti: " + message, file=sys.stderr)
    return 2 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
