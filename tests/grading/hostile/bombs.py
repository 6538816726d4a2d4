"""Notebooks that use up what there is: memory, processes, files, room for output."""

from hostile.attacks import BEFORE, ENDED, MEMORY, TIME, Attacks

attacks = Attacks()
CUT = f"{TIME}|cut"

# Bombs

attacks.cell(
    "memory_bomb", "hoard = []\nwhile len(hoard) < 80:\n    hoard.append(bytearray(b'x') * 10**8)", MEMORY, earns=BEFORE
)
attacks.cell(
    "memory_bomb_of_many_processes",
    """
    import os, time
    for _ in range(20):
        if os.fork() == 0:
            hoard = bytearray(b'x') * 10**8
            for _ in range(3):
                hoard += bytearray(b'x') * 10**8
                time.sleep(0.2)
            time.sleep(1000)
            os._exit(0)
    time.sleep(1000)
    """,
    MEMORY,
    earns=BEFORE,
)
attacks.cell(
    "memory_bomb_in_no_process",
    """
    import os, time
    for number in range(150):
        hoard = os.memfd_create(f"hoard{number}")
        try:
            for _ in range(100):
                os.write(hoard, bytes(10**6))
        except OSError as error:
            print(error)
    time.sleep(1)
    """,
    MEMORY,
    earns=BEFORE,
)
attacks.cell(
    "memory_bomb_between_processes",
    """
    import ctypes
    libc = ctypes.CDLL(None)
    libc.shmat.restype, libc.shmat.argtypes = ctypes.c_void_p, [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
    libc.shmget.argtypes, libc.shmdt.argtypes = [ctypes.c_int, ctypes.c_size_t, ctypes.c_int], [ctypes.c_void_p]
    for _ in range(20):
        place = libc.shmat(libc.shmget(0, 10**8, 0o1600), None, 0)
        if place not in (None, 2**64 - 1):
            ctypes.memset(place, 1, 10**8)
            libc.shmdt(place)
    """,
    earns=(6, 9),
)
attacks.solution(
    "memory_bomb_in_a_function",
    MEMORY,
    earns=(3, 3),
    norm="def norm(v):\n    return [bytearray(b'x') * 10**8 for _ in range(80)]",
)
attacks.cell(
    "fork_bomb",
    """
    import os, time
    for _ in range(12):
        try:
            os.fork()
        except OSError:
            pass
    time.sleep(1000)
    """,
    "processes|MB of memory",
    earns=BEFORE,
)
attacks.cell(
    "thread_bomb",
    """
    import threading, time
    for _ in range(3000):
        try:
            threading.Thread(target=time.sleep, args=[1000], daemon=True).start()
        except RuntimeError:
            time.sleep(0.01)
    """,
    "processes|threads",
    earns=BEFORE,
)
WRITABLE = """
import os, time
places = [line.split()[4] for line in open("/proc/self/mountinfo")]
folders = [place for place in places if os.path.isdir(place) and os.access(place, os.W_OK) and not place.startswith("/proc")]
print(folders)
"""
attacks.cell(
    "file_bomb_of_one_file",
    WRITABLE
    + """
for folder in folders:
    try:
        with open(folder + "/huge", "wb") as huge:
            for _ in range(1000):
                huge.write(bytes(10**6))
    except OSError as error:
        print(folder, "is full", error)
time.sleep(0.5)
""",
    "|folder that is not its own",
    earns=(6, 9),
    shows="is full|/box|folder that is not its own",
)
attacks.cell(
    "file_bomb_of_many_files",
    WRITABLE
    + """
for folder in folders:
    for number in range(20_000):
        try:
            open(f"{folder}/{number}", "x").close()
        except OSError as error:
            print(folder, "is full", error)
            break
time.sleep(0.5)
""",
    "|folder that is not its own",
    earns=(6, 9),
)
attacks.cell(
    "file_bomb_without_names",
    WRITABLE
    + """
hoard = []
for folder in folders:
    for _ in range(4):
        hoard.append(open(folder + "/nameless", "wb"))
        os.unlink(folder + "/nameless")
        try:
            for _ in range(300):
                hoard[-1].write(bytes(10**6))
                hoard[-1].flush()
            print(folder, "has no limit")
        except OSError as error:
            print(folder, "is full", error)
time.sleep(0.5)
""",
    earns=(6, 9),
)
attacks.cell(
    "files_that_come_and_go",
    """
    import ipykernel, os, threading, time
    folder = os.path.dirname(ipykernel.get_connection_file())
    def flicker():
        while True:
            for number in range(50):
                try:
                    open(f"{folder}/flicker{number}", "w").close()
                    os.unlink(f"{folder}/flicker{number}")
                except OSError:
                    time.sleep(0.01)
    threading.Thread(target=flicker, daemon=True).start()
    time.sleep(1)
    hoard = []
    while len(hoard) < 60:
        hoard.append(bytearray(b'x') * 10**8)
    """,
    MEMORY,
    earns=BEFORE,
)
attacks.cell(
    "files_open_bomb",
    """
    import os, socket
    hoard = []
    try:
        while len(hoard) < 100_000:
            hoard.append(os.dup(1))
            hoard.extend(socket.socketpair())
    except OSError as error:
        print(error)
    """,
    earns=(6, 9),
    shows="Too many open files",
)
attacks.cell(
    "files_hard_to_remove",
    WRITABLE
    + """
for folder in folders:
    for attempt in (
        lambda: os.symlink("/", "root"),
        lambda: os.symlink("loop", "loop"),
        lambda: os.symlink(SECRETS[0], "other.ipynb"),
        lambda: os.mkfifo("pipe"),
        lambda: open(b"\\xff\\n\\x1b[31m", "w").close(),
        lambda: (os.mkdir("closed"), open("closed/file", "w").close(), os.chmod("closed", 0)),
        lambda: [(os.mkdir("deep"), os.chdir("deep")) for _ in range(3000)],
    ):
        try:
            os.chdir(folder)
            attempt()
        except OSError as error:
            print(error)
os.chdir("/box")
time.sleep(0.5)
""",
    earns=(6, 9),
)


# Floods

attacks.cell("print_flood", "import sys\nwhile True:\n    print('x' * 1000)\n    print('x' * 1000, file=sys.stderr)", CUT)
attacks.cell("print_of_500_MB", "print(500_000_000 * 'x')", f"{CUT}|{MEMORY}", earns=(6, 9))
attacks.cell("print_flood_from_c", "import os\nos.system('yes & yes >&2')", CUT, earns=(6, 9))
attacks.cell(
    "display_flood",
    """
    from IPython.display import clear_output, display
    handle = display("x", display_id=True)
    while True:
        display(1000 * "x")
        clear_output()
        handle.update(1000 * "x")
    """,
    CUT,
    earns=(6, 9),
)
attacks.cell(
    "huge_image",
    "from IPython.display import Image\nimport os\nImage(b'\\x89PNG\\r\\n\\x1a\\n' + os.urandom(40_000_000), format='png')",
    earns=(6, 9),
)
attacks.cell("huge_traceback", "raise ValueError(100_000_000 * 'x')", earns=(6, 9))
attacks.cell("huge_error_class", "raise type(10_000 * 'Long', (Exception,), {})(1000 * 'words')")
attacks.cell("huge_source_in_a_traceback", "text = '" + 300_000 * "x" + "'; raise ValueError")
attacks.solution("huge_error_in_a_function", "xxx", norm="def norm(v):\n    raise ValueError(50_000_000 * 'x')")
attacks.solution(
    "huge_keys",
    "must be a dictionary|cannot be used|answer",
    settings="def settings(n):\n    return {str(key) + 1000 * 'k': 0 for key in range(1000)}",
)
attacks.cell(
    "widget_flood",
    """
    import uuid
    kernel = get_ipython().kernel
    while True:
        content = {"comm_id": uuid.uuid4().hex, "target_name": "jupyter.widget", "data": {"state": {"value": 3_000_000 * "x"}}}
        kernel.session.send(kernel.iopub_socket, "comm_open", content, parent=kernel.get_parent())
    """,
    f"{CUT}|{ENDED}",
    earns=(6, 9),
)
