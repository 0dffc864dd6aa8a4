"""Makes the virtual environment `.venv` and installs the locked packages into it with uv.

Run by `make`; needs nothing but the standard library. uv itself comes by pip, pinned by hash like all else. Packages
come from the index that pip is configured for: uv doesn't read pip's files, so its settings are handed on. The
bytecode is compiled at once, since where writing it is switched off each start of a process would pay for it anew.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
REQUIREMENTS = PROJECT / "requirements"
ENVIRONMENT = PROJECT / ".venv"
PYTHON = ENVIRONMENT / "bin" / "python"

_UV_VARIABLES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "timeout": "UV_HTTP_TIMEOUT",
}
"""pip's option -> the variable by which uv takes the same. uv separates several find-links by commas, the rest by
blanks as pip does.
"""
_PRECEDENCE = ("global", "install", ":env:")
"""Sections of pip's configuration, each outranked by those after it."""


def uv_variables(pip_configuration: str, environment: Mapping[str, str]) -> dict[str, str]:
    """pip's configuration as environment variables of uv; what `environment` already says to uv stays.

    Args:
        pip_configuration: the output of `pip config list`: lines such as `global.index-url='https://...'`.
        environment: the variables of this process.
    """
    entries = []
    for line in pip_configuration.splitlines():
        name, separator, value = line.partition("=")
        section, _, option = name.rpartition(".")
        if separator and section in _PRECEDENCE and option in _UV_VARIABLES:
            entries.append((_PRECEDENCE.index(section), option, str(ast.literal_eval(value))))
    found: dict[str, str] = {}
    for _, option, value in sorted(entries):
        separated = ",".join(value.split()) if option == "find-links" else " ".join(value.split())
        if separated:
            found[_UV_VARIABLES[option]] = separated
    # pip looks for the best version in all indexes; uv would stop at the first that has any. Hashes pin the content.
    found["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return {name: value for name, value in found.items() if name not in environment}


def install(*, development: bool) -> None:
    """Installs the runtime's packages, and the developers' too where `development` says so, and the project itself.

    Raises:
        subprocess.CalledProcessError: a command failed; it has printed why.
    """
    if not PYTHON.exists():
        venv.create(ENVIRONMENT, with_pip=True)
    pip = [str(PYTHON), "-m", "pip", "--disable-pip-version-check"]
    installer = ["--require-hashes", "--requirement", str(REQUIREMENTS / "installer.txt")]
    subprocess.run([*pip, "install", "--quiet", *installer], check=True)
    configuration = subprocess.run([*pip, "config", "list"], check=True, capture_output=True, text=True).stdout
    variables = {**os.environ, **uv_variables(configuration, os.environ)}
    uv = [str(ENVIRONMENT / "bin" / "uv"), "pip", "install", "--python", str(PYTHON), "--quiet"]
    locks = [REQUIREMENTS / "runtime.txt", *([REQUIREMENTS / "dev.txt"] if development else [])]
    listed = [argument for lock in locks for argument in ("--requirement", str(lock))]
    subprocess.run([*uv, "--require-hashes", "--compile-bytecode", *listed], check=True, env=variables)
    project = ["--no-deps", "--no-build-isolation", "--editable", str(PROJECT)]
    subprocess.run([*uv, *project], check=True, env=variables)
    subprocess.run([str(PYTHON), "-m", "compileall", "-q", str(PROJECT / "lakehouse")], check=True)


def main() -> None:
    if sys.version_info < (3, 11) or sys.version_info >= (3, 14):
        sys.exit(
            f"Lakehouse needs Python 3.11 to 3.13, and this is {sys.version.split()[0]}: name another with "
            "`make PYTHON=python3.12 ...`"
        )
    try:
        install(development="--dev" in sys.argv[1:])
    except subprocess.CalledProcessError as error:
        sys.exit(f"The installation failed (exit code {error.returncode}); its own words are above")


if __name__ == "__main__":
    main()
