"""Where this process runs, as far as it decides who may read the counters of a GPU: driver, rights, container, virtual machine.

Everything is read from files, so that a test can lay out any machine in a directory.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_SYS_ADMIN, _PERFMON = 21, 38
"""Bits of a capability set (linux/capability.h)."""

_PERFMON_DRIVER = 565
"""First driver that lets CAP_PERFMON read counters (developer.nvidia.com/ERR_NVGPUCTRPERM)."""

_DRIVER_FILES = ("proc/driver/nvidia/version", "dev/nvidiactl", "dev/dxg", "dev/nvhost-ctrl-gpu", "dev/nvgpu")
"""What a driver leaves: the desktop and data-centre one (two), WSL2's passage to Windows, Jetson's (two)."""

_CONTAINER_FILES = (".dockerenv", "run/.containerenv")
_CONTAINER_GROUP = re.compile(r"docker|kubepods|containerd|libpod|podman|/lxc|crio")
_KUBERNETES_FILE = "var/run/secrets/kubernetes.io"
_GVISOR = re.compile(r"gvisor|Sun Jan 10 15:06:54 PST 2016", re.IGNORECASE)
"""/proc/version of gVisor: ``4.4.0`` or ``4.19.0-gvisor`` with a build date that never changes."""

_ALL_USERS = [["0", "0", "4294967295"]]
"""/proc/self/uid_map outside of user namespaces (user_namespaces(7))."""

_VGPU_NAME = re.compile(r"\bGRID\b|-\d+[ABCQ]\b")
"""Names of virtual GPUs: ``GRID T4-8C``, ``NVIDIA A100-40C`` (docs.nvidia.com/vgpu, virtual GPU types)."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The machine below ``root``."""

    root: Path = Path("/")

    def text(self, path: str) -> str:
        """Return what a file holds, empty where it is not there or not readable."""
        try:
            return (self.root / path).read_text(encoding="utf-8", errors="replace")
        except (OSError, ValueError):
            return ""

    def there(self, path: str) -> bool:
        """Tell whether a file or directory is there."""
        try:
            return (self.root / path).exists()
        except OSError:
            return False

    @property
    def has_proc(self) -> bool:
        """Tell whether this is a system whose state can be read from /proc at all."""
        return self.there("proc/self/status")

    @property
    def has_driver(self) -> bool:
        """Tell whether an NVIDIA driver is loaded."""
        return any(map(self.there, _DRIVER_FILES))

    @property
    def driver_major(self) -> int:
        """Return the first number of the driver's version, 0 where not known."""
        found = re.search(r"Kernel Module.*?\s(\d{3,4})\.\d", self.text("proc/driver/nvidia/version"))
        return int(found[1]) if found else 0

    @property
    def administrators_only(self) -> bool | None:
        """Tell whether the driver lets administrators alone read counters, None where it does not say."""
        found = re.search(r"^RmProfilingAdminOnly:\s*(\d+)", self.text("proc/driver/nvidia/params"), re.MULTILINE)
        return None if found is None else found[1] != "0"

    @property
    def may_profile(self) -> bool:
        """Tell whether this process has the rights of an administrator over counters.

        The driver asks for a capability of the host, not for user 0: root of a container started without more has none, and a
        capability inside a user namespace of its own does not count.
        """
        found = re.search(r"^CapEff:\s*([0-9a-fA-F]+)", self.text("proc/self/status"), re.MULTILINE)
        held = int(found[1], 16) if found else 0
        perfmon = self.perfmon_counts and bool(held >> _PERFMON & 1)
        return self._host_users and (bool(held >> _SYS_ADMIN & 1) or perfmon)

    @property
    def perfmon_counts(self) -> bool:
        """Tell whether this driver accepts CAP_PERFMON, which is much narrower than CAP_SYS_ADMIN."""
        return self.driver_major >= _PERFMON_DRIVER

    @property
    def _host_users(self) -> bool:
        """Tell whether the users of this process are those of the host (no user namespace of its own)."""
        lines = [line.split() for line in self.text("proc/self/uid_map").splitlines() if line.strip()]
        return not lines or lines == _ALL_USERS

    @property
    def gvisor(self) -> bool:
        """Tell whether the kernel is gVisor, which passes some calls of the driver on and drops those of profilers."""
        release = self.text("proc/sys/kernel/osrelease").strip()
        return release == "4.4.0" or _GVISOR.search(self.text("proc/version") + release) is not None

    @property
    def wsl(self) -> bool:
        """Tell whether this is Linux under Windows."""
        return "microsoft" in self.text("proc/sys/kernel/osrelease").lower() or self.there("dev/dxg")

    @property
    def jetson(self) -> bool:
        """Tell whether the GPU is that of a Jetson."""
        tegra = "-tegra" in self.text("proc/sys/kernel/osrelease") or self.there("etc/nv_tegra_release")
        return tegra or "Jetson" in self.text("proc/device-tree/model")

    @property
    def kubernetes(self) -> bool:
        """Tell whether this is a pod."""
        return self.there(_KUBERNETES_FILE) or "kubepods" in self._groups

    @property
    def container(self) -> bool:
        """Tell whether this is a container."""
        files = any(map(self.there, _CONTAINER_FILES))
        return files or self.kubernetes or _CONTAINER_GROUP.search(self._groups) is not None

    @property
    def _groups(self) -> str:
        return self.text("proc/1/cgroup") + self.text("proc/self/cgroup")

    @property
    def gpus(self) -> tuple[str, ...]:
        """Return the names that the driver gives its GPUs."""
        try:
            paths = sorted((self.root / "proc/driver/nvidia/gpus").glob("*/information"))
        except OSError:
            return ()
        found = (re.search(r"^Model:\s*(.+?)\s*$", self.text(str(p.relative_to(self.root))), re.MULTILINE) for p in paths)
        return tuple(match[1] for match in found if match)

    @property
    def vgpu(self) -> bool:
        """Tell whether a GPU here is a share of one that a hypervisor hands out."""
        return any(_VGPU_NAME.search(name) for name in self.gpus)

    @property
    def mig(self) -> bool:
        """Tell whether a GPU here is split into MIG instances."""
        try:
            return any((self.root / "proc/driver/nvidia/capabilities").glob("gpu*/mig/gi*"))
        except OSError:
            return False

    @property
    def module(self) -> str:
        """Return what the kernel module of the driver is called: Debian's own package has another name for it."""
        return "nvidia-current" if self.there("etc/nvidia/current") else "nvidia"

    @property
    def boot_image(self) -> str:
        """Return the command that writes the driver's settings into the boot image on this distribution."""
        found = re.findall(r"^ID(?:_LIKE)?=\"?([^\"\n]*)", self.text("etc/os-release"), re.MULTILINE)
        families = set(" ".join(found).split())
        if families & {"fedora", "rhel", "centos", "suse", "opensuse"}:
            return "sudo dracut --force"
        return "sudo mkinitcpio -P" if "arch" in families else "sudo update-initramfs -u"
