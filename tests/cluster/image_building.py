"""Builds docker/Dockerfile without an engine, by buildah, on a base that needs no registry.

The stand-in for the base image is a Debian made by debootstrap: what is tested are the steps of the file.
Layers stay in a folder from one run of the tests to the next (POLYPHASE_IMAGE_CACHE, else .cache/images).
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
SUITE = "bookworm"
STAND_IN = f"localhost/polyphase-stand-in:{SUITE}"
IMAGE = "localhost/polyphase:cpu"
#: Where the image has its program and virtual environment.
HOME, VENV = Path("/polyphase"), Path("/opt/polyphase")

_NEEDED = ("buildah", "podman", "runc", "debootstrap")
#: What the stand-in has of python:3.11-slim.
_PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"


def missing_for_images() -> str | None:
    """Why no image can be built here, or None."""
    if os.geteuid() != 0:
        return "needs root: debootstrap and mounts"
    lacking = [name for name in _NEEDED if shutil.which(name) is None]
    if lacking:
        return f"needs the commands {', '.join(lacking)}"
    try:
        Store().stand_in()
    except ImageError as error:
        return f"no image can be made or run here: {error}"
    return None


class ImageError(Exception):
    """A tool's own words."""


def run(command: Sequence[str], timeout: float = 1800) -> str:
    """What a command prints.

    Raises:
        ImageError: it failed.
    """
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode != 0:
        told = f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}".strip()
        raise ImageError(f"{' '.join(command[:6])} ...: code {done.returncode}: {told}")
    return done.stdout


class Store:
    """Images and layers in a folder of ours, apart from those of the machine's user."""

    def __init__(self) -> None:
        given = os.environ.get("POLYPHASE_IMAGE_CACHE")
        self.folder = Path(given) if given else REPOSITORY / ".cache/images"
        self.folder.mkdir(parents=True, exist_ok=True)
        root, state = self.folder / "store", self.folder / "state"
        # overlay: vfs copies the whole image for every step
        self._where = (f"--root={root}", f"--runroot={state}", "--storage-driver=overlay")

    def podman(self, *words: str, timeout: float = 1800) -> str:
        """Run podman on these images."""
        return run(["podman", *self._where, *words], timeout)

    def stand_in(self) -> None:
        """Make the base image unless it is there, and try to run it.

        Raises:
            ImageError: one of both cannot be done.
        """
        try:
            self.podman("image", "exists", STAND_IN)
        except ImageError:
            tree = self.folder / "base"
            shutil.rmtree(tree, ignore_errors=True)
            run(["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", SUITE, str(tree)])
            run(["tar", "--create", f"--file={tree}.tar", f"--directory={tree}", "."])
            self.podman("import", f"{tree}.tar", STAND_IN)
            shutil.rmtree(tree)
            Path(f"{tree}.tar").unlink()
        run(self.container([], STAND_IN, ["true"]), 120)

    def build(self, secret: Path, log: Path) -> None:
        """Build the image, with what pip is configured with on this machine."""
        settings, folders = pip_settings()
        secret.write_text(settings, encoding="utf-8")
        arguments = {
            "VARIANT": "cpu",
            "BASE_IMAGE": STAND_IN,
            "CUDA_BUILD_IMAGE": "localhost/no-such-image",
            "CUDA_IMAGE": "localhost/no-such-image",
            # the usual index, or wherever this machine's pip looks
            "TORCH_INDEX": "none",
            "REVISION": "revision-of-the-test",
        }
        # --format docker keeps HEALTHCHECK and SHELL; chroot needs no container runtime
        command = ["buildah", *self._where, "bud", "--layers", "--jobs=1", "--format=docker"]
        command += ["--isolation=chroot", "--network=host", "--pull-never"]
        command += [f"--volume={folder}:{folder}:ro" for folder in folders]
        command += [f"--build-arg={name}={value}" for name, value in arguments.items()]
        command += [f"--secret=id=pip.conf,src={secret}", f"--tag={IMAGE}"]
        command += [f"--file={REPOSITORY}/docker/Dockerfile", str(REPOSITORY)]
        log.write_text(run(command, 3000), encoding="utf-8")

    def container(
        self,
        options: Sequence[str],
        image: str,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
    ) -> list[str]:
        """The command line that runs a command in a container of its own, without a network."""
        words = ["podman", *self._where, "--runtime=runc", "run", "--rm", "--network=none"]
        # podman would raise limits, which root of a container may not
        words += ["--no-healthcheck", "--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096"]
        words += [f"--env={name}={value}" for name, value in (environment or {}).items()]
        return [*words, *options, image, *command]

    def settings(self) -> dict[str, Any]:
        """What the image says of itself."""
        return json.loads(self.podman("image", "inspect", IMAGE))[0]

    def unpack(self, folder: Path) -> None:
        """The image's files, as programs want them that run a folder."""
        name = self.podman("create", "--no-healthcheck", IMAGE).strip()
        try:
            self.podman("export", f"--output={folder}.tar", name)
        finally:
            self.podman("rm", name)
        folder.mkdir()
        run(["tar", "--extract", f"--file={folder}.tar", f"--directory={folder}"])
        Path(f"{folder}.tar").unlink()


def pip_settings() -> tuple[str, list[Path]]:
    """A pip.conf of what pip goes by here, and the files and folders that it speaks of."""
    listed = run([sys.executable, "-m", "pip", "config", "list"]).splitlines()
    found: dict[str, str] = {}
    for line in sorted(listed, key=lambda one: one.startswith(":env:")):  # variables overrule files
        key, _, value = line.partition("=")
        name = key.removeprefix(":env:.").rpartition(".")[2]
        if not key.startswith("install.") and name not in ("config-file", "no-cache-dir"):
            found[name] = str(ast.literal_eval(value))
    places = list[Path]()
    for value in found.values():
        for word in value.split():
            path = Path(word.removeprefix("file://"))
            if path.is_absolute() and path.exists():
                # an index refers to files beside it
                places.append(path.parent if word.startswith("file:") else path)
    text = "".join(f"{name} = {value}\n" for name, value in found.items())
    return f"[global]\n{text}", list(dict.fromkeys(places))
