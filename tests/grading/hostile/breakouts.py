"""Notebooks that read what is not theirs, or reach out of the sandbox."""

from hostile.attacks import TIME, Attacks

attacks = Attacks()

# Reading what is not theirs

attacks.cell(
    "read_the_paths",
    """
    for path in SECRETS:
        try:
            print(path, open(path, "rb").read())
        except OSError as error:
            print(type(error).__name__)
    """,
    shows="FileNotFoundError|PermissionError",
)
NEEDLE = "the-examiner(?=s-own)"
attacks.cell(
    "read_all_files",
    f"""
    import os, re, sys
    for folder, folders, files in os.walk("/"):
        if folder.startswith(("/proc", "/sys", "/usr", "/lib", "/bin", sys.base_prefix, sys.prefix + "/lib")):
            folders.clear()
            continue
        for name in files:
            try:
                path = os.path.join(folder, name)
                text = open(path, "rb").read(10**6) if os.path.isfile(path) else b""
                for found in re.finditer(rb"{NEEDLE}", text):
                    print(path, text[found.start() : found.start() + 30])
            except OSError:
                pass
    print("read them all")
    """,
    shows="read them all",
)
attacks.cell(
    "read_processes",
    f"""
    import os, re
    print(dict(os.environ))
    for number in filter(str.isdigit, os.listdir("/proc")):
        for name in ("environ", "cmdline", "maps", "root/etc/shadow", "cwd/course.toml", "mem"):
            try:
                text = open(f"/proc/{{number}}/{{name}}", "rb").read(10**6)
                for found in re.finditer(rb"{NEEDLE}|root:", text):
                    print(number, name, text[found.start() : found.start() + 30])
            except OSError:
                pass
        for number_of_file in os.listdir(f"/proc/{{number}}/fd") if os.access(f"/proc/{{number}}/fd", os.R_OK) else ():
            try:
                print(os.readlink(f"/proc/{{number}}/fd/{{number_of_file}}"))
            except OSError:
                pass
    print("read them all")
    """,
    after="settings_hidden",
    shows="read them all",
)
attacks.cell(
    "read_its_memory",
    f"""
    import re
    for line in open("/proc/self/maps"):
        start, end = (int(place, 16) for place in line.split()[0].split("-"))
        if line.split()[1].startswith("rw"):
            try:
                with open("/proc/self/mem", "rb") as memory:
                    memory.seek(start)
                    text = memory.read(min(end - start, 10**8))
                for found in re.finditer(rb"{NEEDLE}", text):
                    print(text[found.start() - 100 : found.start() + 30])
            except (OSError, OverflowError, ValueError):
                pass
    print("read them all")
    """,
    after="settings_hidden",
    shows="read them all",
)


# Reaching out

attacks.cell(
    "network",
    """
    import socket
    places = [(socket.AF_INET, kind, ("127.0.0.1", PORT)) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)]
    places += [(socket.AF_INET6, socket.SOCK_STREAM, ("::1", PORT)), (socket.AF_INET, socket.SOCK_STREAM, ("0.0.0.0", PORT))]
    names = [line.split()[-1].replace("@", "\\0", 1) for line in open("/proc/net/unix") if "@" in line]
    places += [(socket.AF_UNIX, socket.SOCK_STREAM, name) for name in (SOCKET, *names)]
    for family, kind, address in places:
        try:
            with socket.socket(family, kind) as out:
                out.settimeout(1)
                out.connect(address)
                out.send(b"hello from the sandbox")
                print("sent to", address)
        except OSError as error:
            print(type(error).__name__)
    """,
    shows="ConnectionRefusedError|OSError",
)
attacks.cell(
    "leaving_the_sandbox",
    """
    import ctypes, os, resource
    libc = ctypes.CDLL(None, use_errno=True)
    tries = {
        "unshare user": lambda: libc.unshare(0x10000000),
        "unshare mount": lambda: libc.unshare(0x00020000),
        "mount": lambda: libc.mount(b"tmpfs", b"/tmp", b"tmpfs", 0, None),
        "remount": lambda: libc.mount(None, b"/usr", None, 0x20 | 0x1000, None),
        "umount": lambda: libc.umount2(b"/tmp", 2),
        "trace": lambda: libc.ptrace(16, 1, None, None),
        "chroot": lambda: libc.chroot(b"/proc/1/root"),
        "setuid": lambda: libc.setuid(0),
        "device": lambda: libc.mknod(b"/tmp/vda", 0o60600, 0xFE00),
        "hostname": lambda: libc.sethostname(b"taken", 5),
        "kill": lambda: min(libc.kill(number, 19) for number in (os.getppid(),) if number != 1) if os.getppid() != 1 else -1,
        "nice": lambda: libc.setpriority(0, 0, -20),
        "files": lambda: libc.setrlimit(resource.RLIMIT_NOFILE, (ctypes.c_ulong * 2)(10**6, 10**6)),
        "setns": lambda: libc.setns(os.open("/proc/1/ns/mnt", os.O_RDONLY), 0),
    }
    for name, attempt in tries.items():
        try:
            print(name, "refused" if attempt() == -1 else "allowed")
        except OSError:
            print(name, "refused")
    paths = ["/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/1/oom_score_adj", "/sys/fs/cgroup/cgroup.procs"]
    for path in (*paths, "/dev/vda"):
        try:
            open(path, "w").write("0")
            print(path, "allowed")
        except OSError:
            print(path, "refused")
    """,
    earns=(6, 9),
    shows="unshare user refused",
)
attacks.cell(
    "writing_to_the_package",
    """
    import os, shutil, sys
    import vaecourse.grading.checks as target
    for path in (target.__file__, torch.__file__, sys.executable, f"{sys.prefix}/taken", "/usr/taken", "/etc/taken", "/taken"):
        try:
            os.chmod(path, 0o777) if os.path.exists(path) else None
        except OSError:
            pass
        for attempt in (lambda: open(path, "a").write("taken"), lambda: os.unlink(path), lambda: os.rename(path, path + "_")):
            try:
                attempt()
                print("changed", path)
            except OSError as error:
                print(type(error).__name__)
    shutil.rmtree(sys.prefix, ignore_errors=True)
    shutil.rmtree(os.path.dirname(target.__file__), ignore_errors=True)
    """,
    shows="OSError|PermissionError",
)
attacks.cell(
    "shell_commands",
    "!id; rm -rf / 2>/dev/null; touch /tmp/x; kill -9 -1",
    earns=(6, 9),
)
attacks.cell("bash_cell", "%%bash\nwhile true; do sleep 0.1; done", TIME, earns=(6, 9))
attacks.cell(
    "magic_run",
    "open('own.py', 'w').write('def norm(v): return 0\\nimport sys; sys.exit(3)')\n%run own.py\n%reset -f\n%autoreload 9",
    "",
    earns=(6, 9),
)
attacks.cell(
    "daemon",
    """
    import os, signal, sys, time
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            time.sleep(1000)
        os._exit(0)
    os.wait()
    import subprocess
    subprocess.Popen(["setsid", "nohup", "sleep", "1000"])
    """,
)
attacks.cell(
    "limits_of_itself",
    "import resource\nfor limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_AS):\n    resource.setrlimit(limit, (3, 3))",
    earns=(6, 9),
)
attacks.cell(
    "clock_of_the_past",
    "import time\ntime.time = time.monotonic = time.perf_counter = lambda: 0.0\ntime.sleep = lambda seconds: None",
    earns=(6, 9),
)
