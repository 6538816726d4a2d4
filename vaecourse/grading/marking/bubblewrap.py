"""The sandbox itself: what a program in it may see and do, and whether there is one on this machine."""

import shutil
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[2]
BOX = "/box"
"""The student's working folder in the sandbox: in memory, and gone with it."""

NOBODY = "60001"
HOW_TO_INSTALL = """\
Submissions are graded in a sandbox, bubblewrap, and only there; on this machine it does not work:
    {reason}
Debian, Ubuntu: apt-get install bubblewrap (0.8 or newer). Fedora: dnf install bubblewrap. macOS, Windows: grade in a Linux
virtual machine or under WSL2. Where it is installed and may not make user namespaces, sysctl kernel.unprivileged_userns_clone=1
(Debian) or an AppArmor profile for /usr/bin/bwrap (Ubuntu 24.04) permits it. Students' own checks need no sandbox."""


class SandboxMissing(RuntimeError):
    """There is no sandbox that works here."""


def command(disk_mb: int) -> list[str]:
    """bubblewrap's words: what the program that follows them may see and do."""
    seen = [
        "/usr",
        "/bin",
        "/lib",
        "/lib32",
        "/lib64",
        "/etc/ld.so.cache",
        "/etc/fonts",
        sys.base_prefix,
        sys.prefix,
        str(PACKAGE),
    ]
    binds = [word for path in seen if Path(path).exists() for word in ("--ro-bind", str(Path(path).resolve()), path)]
    names = {
        "HOME": BOX,
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "USER": "student",
        "LANG": "C.UTF-8",
        "IPYTHONDIR": "/tmp/ipython",
        "MPLCONFIGDIR": "/tmp/matplotlib",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    words = ["--unshare-all", "--unshare-user", "--uid", NOBODY, "--gid", NOBODY, "--disable-userns", "--cap-drop", "ALL"]
    words += ["--die-with-parent", "--new-session", "--clearenv", "--proc", "/proc", "--dev", "/dev"]
    for folder in (BOX, "/tmp", "/dev/shm"):
        words += ["--size", str(disk_mb * 1_000_000), "--tmpfs", folder]
    words += [*binds, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", BOX]  # what is seen may lie in /tmp
    return ["bwrap", *words, *(word for name, value in names.items() for word in ("--setenv", name, value))]


def require() -> None:
    """Raise SandboxMissing, with what to install, where no sandbox can be made."""
    try:
        if not shutil.which("bwrap"):
            raise SandboxMissing(HOW_TO_INSTALL.format(reason="there is no program bwrap"))
        trial = [*command(1), "--", sys.executable, "-S", "-c", ""]
        subprocess.run(trial, check=True, capture_output=True, text=True, timeout=60, cwd="/")
    except subprocess.SubprocessError as error:
        reason = (getattr(error, "stderr", "") or str(error)).strip()
        raise SandboxMissing(HOW_TO_INSTALL.format(reason=reason)) from error
