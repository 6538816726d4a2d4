"""Notebooks that never end, and notebooks whose kernel ends."""

from hostile.attacks import BEFORE, ENDED, MEMORY, TIME, Attacks

attacks = Attacks()

# What never ends

attacks.cell("loop", "while True:\n    pass", TIME)
attacks.cell("loop_in_power", "9**9**9", TIME, earns=(6, 9))
attacks.cell("loop_in_c", "import collections, itertools\ncollections.deque(itertools.count(), maxlen=0)", TIME, earns=BEFORE)
attacks.cell(
    "loop_that_cannot_be_interrupted",
    """
    import signal
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass
    """,
    TIME,
    earns=BEFORE,
)
attacks.cell(
    "loop_in_import", "from pathlib import Path\nPath('forever.py').write_text('while True: pass')\nimport forever", TIME
)
attacks.cell(
    "loop_in_del",
    """
    class Forever:
        def __del__(self):
            while True:
                try:
                    while True:
                        pass
                except BaseException:
                    pass

    forever = Forever()
    del forever
    """,
    TIME,
    earns=BEFORE,
)
attacks.cell(
    "loop_in_repr", "class Forever:\n    def __repr__(self):\n        while True:\n            pass\n\nForever()", TIME
)
attacks.cell("await", "import asyncio\nawait asyncio.sleep(1e6)", TIME, earns=(6, 9))
attacks.cell(
    "task_that_blocks",
    "import asyncio\nasync def spin():\n    while True:\n        pass\ntask = asyncio.create_task(spin())",
    TIME,
    earns=(6, 9),
)
attacks.cell(
    "thread_that_holds_the_lock",
    """
    import collections, itertools, threading
    threading.Thread(target=lambda: collections.deque(itertools.count(), maxlen=0)).start()
    """,
    TIME,
    earns=BEFORE,
)
attacks.cell(
    "ending_that_hangs",
    """
    import atexit, signal, threading, time
    atexit.register(time.sleep, 1e6)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    get_ipython().kernel.do_shutdown = lambda restart: time.sleep(1e6)
    threading.Thread(target=time.sleep, args=[1e6]).start()
    """,
)
attacks.cell("input", "points = input('How many points do I get?')")
attacks.cell("debugger", "breakpoint()\nimport pdb\npdb.set_trace()")
attacks.solution("loop_in_a_function", TIME, earns=(3, 6), norm="def norm(v):\n    while True:\n        pass")
attacks.solution(
    "slow_calls", "stopped|no answer|^$", earns=(0, 9), twice="import time\ndef twice(x):\n    time.sleep(3)\n    return 2 * x"
)
attacks.solution("recursion_without_end", "RecursionError", norm="def norm(v):\n    return norm(v)")
attacks.cell(
    "recursion_without_limit",
    "import sys\nsys.setrecursionlimit(10**9)\ndef fall(x):\n    return fall([x])\nfall(0)",
    f"{ENDED}|{MEMORY}|{TIME}",
    earns=BEFORE,
)


# Exits and signals

attacks.cell("exit_at_once", "import os\nos._exit(0)", ENDED, earns=BEFORE)
attacks.cell("exit_by_exception", "import sys\nsys.exit(0)")
attacks.cell("exit_by_word", "exit", earns=(6, 9))
attacks.cell("exit_of_the_kernel", "get_ipython().kernel.do_shutdown(False)\nget_ipython().kernel.io_loop.stop()", earns=(6, 9))
attacks.cell("exit_of_the_loop", "import asyncio\nasyncio.get_running_loop().stop()", earns=(6, 9))
attacks.cell("abort", "import os\nos.abort()", ENDED, earns=BEFORE)
attacks.cell("segmentation_fault", "import ctypes\nctypes.string_at(0)", ENDED, earns=BEFORE)
attacks.cell("kill", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", ENDED, earns=BEFORE)
attacks.cell(
    "kill_everything",
    "import os, signal\nos.system('sleep 9 &')\nos.kill(-1, signal.SIGKILL)\nos.kill(os.getpid(), signal.SIGKILL)",
    ENDED,
    earns=BEFORE,
)
attacks.cell("stop_itself", "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)", TIME, earns=BEFORE)
attacks.cell(
    "stop_everything",
    "import os, signal\nos.system('sleep 9 &')\nos.kill(-1, signal.SIGSTOP)\nos.kill(os.getpid(), signal.SIGSTOP)",
    TIME,
    earns=BEFORE,
)
attacks.cell("become_another_program", "import os\nos.execvp('sleep', ['sleep', '1000'])", f"{ENDED}|{TIME}", earns=BEFORE)
attacks.cell("close_all_files", "import os\nos.closerange(3, 4096)", f"{ENDED}|{TIME}", earns=BEFORE)
attacks.solution("exit_in_a_function", ENDED, earns=(3, 3), norm="import os\ndef norm(v):\n    os._exit(0)")
attacks.solution(
    "exceptions_that_are_no_errors",
    "SystemExit|KeyboardInterrupt|GeneratorExit",
    earns=(0, 0),
    twice="def twice(x):\n    raise SystemExit(0)",
    norm="def norm(v):\n    raise KeyboardInterrupt",
    settings="def settings(n):\n    raise GeneratorExit",
)
