"""Answers that are no plain data, or lie about what they are, and functions that know where they run."""

from hostile.attacks import BEFORE, MEMORY, WRONG_VALUE, Attacks

attacks = Attacks()

# Values

attacks.solution(
    "value_with_repeated_parts",
    "entries|deep|answer|must be",
    settings="""
    def settings(n):
        part = [1]
        for _ in range(35):
            part = [part, part]
        return {"half": part, "powers": part}
    """,
)
attacks.solution(
    "value_of_many_parts", "entries|answer|characters", norm="def norm(v):\n    return 20_000_000 * [0.0]", earns=(3, 6)
)
attacks.solution("value_without_end", WRONG_VALUE, norm="import itertools\ndef norm(v):\n    return itertools.count()")
attacks.solution(
    "value_deep",
    "deep|answer",
    norm="def norm(v):\n    part = 1\n    for _ in range(100_000):\n        part = [part]\n    return part",
    earns=(3, 6),
)
attacks.solution(
    "value_that_holds_itself",
    "deep|answer",
    settings="def settings(n):\n    found = {'half': n / 2}\n    found['powers'] = found\n    return found",
)
attacks.solution(
    "value_huge_tensor", "bytes|answer|characters", norm="def norm(v):\n    return torch.zeros(1).expand(10**10)", earns=(3, 6)
)
attacks.solution("value_wide_tensor", f"{WRONG_VALUE}|answer", norm="def norm(v):\n    return torch.zeros(1, 0, 10**12)")
attacks.solution(
    "value_of_many_digits",
    f"answer|digits|{WRONG_VALUE}",
    twice="def twice(x):\n    return 1 << 33_000_000",
    settings="def settings(n):\n    return {'half': 10**4000, 'powers': [10**400] * 3}",
    earns=(3, 3),
)
attacks.solution(
    "value_long_text", f"characters|{MEMORY}|{WRONG_VALUE}", norm="def norm(v):\n    return 10**9 * 'x'", earns=(3, 6)
)
attacks.solution(
    "values_that_are_no_plain_tensors",
    f"{WRONG_VALUE}|answer|Error",
    earns=(0, 0),
    twice="def twice(x):\n    return torch.sparse_coo_tensor([[0]], [2.0 * x], [3])",
    norm="def norm(v):\n    return torch.empty(3, device='meta')",
    settings="""
    def settings(n):
        quantized = torch.quantize_per_tensor(torch.ones(2), 0.1, 10, torch.quint8)
        return {"half": quantized, "powers": torch.nested.nested_tensor([torch.ones(2)])}
    """,
)
attacks.solution(
    "values_that_are_no_numbers",
    f"{WRONG_VALUE}|answer|Error",
    earns=(0, 0),
    twice="import numpy as np\ndef twice(x):\n    return np.array([2 * x], dtype=object)",
    norm="def norm(v):\n    return np.array([(1.0, 2)], dtype=[('a', 'f8'), ('b', 'i4')])",
    settings="def settings(n):\n    return {float('nan'): n / 2, None: n, (1, 2): n, frozenset(): n}",
)
attacks.solution(
    "values_not_finite",
    "not finite|inf|nan",
    earns=(0, 0),
    twice="def twice(x):\n    return float('nan')",
    norm="def norm(v):\n    return torch.tensor(float('inf'))",
    settings="def settings(n):\n    return {'half': float('-inf'), 'powers': [float('nan')] * 3}",
)
attacks.solution(
    "values_complex",
    ".",
    earns=(0, 0),
    twice="def twice(x):\n    return torch.tensor(2 * x + 5j)",
    norm="def norm(v):\n    return v.square().sum().sqrt() + 1j",
    settings="def settings(n):\n    return {'half': n / 2 + 1j, 'powers': [n + 1j, n**2 + 1j, n**3 + 1j]}",
)
attacks.solution(
    "values_of_every_numpy_kind",
    WRONG_VALUE,
    earns=(0, 0),
    twice="import numpy as np\ndef twice(x):\n    return np.longdouble(0)",
    norm="def norm(v):\n    return np.array(['2020-01-01'], dtype='datetime64[D]')",
    settings="def settings(n):\n    return {'half': np.ones(3, '>f8')[::-1], 'powers': np.broadcast_to(np.float16(1), (3,))}",
)
LIAR = """
class Liar:
    __class__ = property(lambda self: torch.Tensor)
    __array_priority__ = 1e9
    shape, dtype, device = torch.Size(()), torch.float64, torch.device("cpu")
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return 0
    def __bool__(self): return True
    def __float__(self): return 6.0
    def __int__(self): return 6
    def __index__(self): return 6
    def __complex__(self): return 6j
    def __len__(self): return 0
    def __getattr__(self, name): return lambda *_, **__: self
    def __array__(self, *_, **__): raise MemoryError("1000 points")
    @classmethod
    def __torch_function__(cls, *_, **__): return torch.tensor(True)
"""
attacks.solution(
    "objects_that_lie",
    f"{WRONG_VALUE}|Error",
    earns=(0, 0),
    twice=LIAR + "\ndef twice(x):\n    return Liar()",
    norm="def norm(v):\n    return [Liar()]",
    settings="def settings(n):\n    return {'half': Liar(), 'powers': Liar()}",
)
attacks.solution(
    "tensors_that_lie",
    f"{WRONG_VALUE}|answer|Error",
    earns=(0, 0),
    twice="""
    class Lie(torch.Tensor):
        def detach(self): return self
        def cpu(self): return self
        def numpy(self): return "a verdict"
        def tolist(self): return [1000]
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None): return torch.ones(())

    def twice(x):
        return torch.zeros(()).as_subclass(Lie)
    """,
    norm="""
    import numpy as np
    class Array(np.ndarray):
        nbytes = 0
        def tobytes(self): return 8 * bytes(10**6)
        dtype = np.dtype("f8")

    def norm(v):
        return np.zeros(()).view(Array)
    """,
    settings="""
    class Number(torch.nn.Parameter):
        shape = (1000, 1000)

    def settings(n):
        return {"half": Number(torch.zeros(())), "powers": torch.zeros(3, requires_grad=True)}
    """,
)
attacks.solution(
    "subclasses_that_lie",
    f"{WRONG_VALUE}|answer|Error",
    earns=(0, 0),
    twice="""
    class Number(float):
        def __repr__(self): return "6.0"
        def __eq__(self, other): return True

    def twice(x):
        return Number(0)
    """,
    norm="""
    class List(list):
        def __len__(self): return 0
        def __iter__(self):
            yield from [0.0] * 100_000_000

    def norm(v):
        return List()
    """,
    settings="""
    class Dict(dict):
        def items(self):
            while True:
                yield "half", 0
        keys = __iter__ = items
        def __getitem__(self, key): return 0

    def settings(n):
        return Dict(half=0, powers=0)
    """,
)
attacks.solution(
    "value_is_the_function",
    WRONG_VALUE,
    earns=(0, 0),
    twice="def twice(x):\n    return twice",
    norm="def norm(v):\n    return (x for x in v)",
    settings="def settings(n):\n    return settings",
)
attacks.solution(
    "functions_that_are_none",
    "not|callable|NameError|TypeError",
    earns=(0, 0),
    twice="twice = 6",
    norm="norm = torch.tensor(5.0)",
    settings="del twice\nclass settings(dict):\n    pass",
)
attacks.solution(
    "stop_iteration",
    "StopIteration",
    earns=(7, 7),
    twice="def twice(x):\n    if x == 3:\n        return 6\n    raise StopIteration",
)
attacks.solution(
    "errors_that_lie",
    "Error|1000 points",
    earns=(0, 0),
    twice="def twice(x):\n    raise AssertionError('all well: 1000 points')",
    norm="def norm(v):\n    raise checks.Mistake('all well: 1000 points')",
    settings="def settings(n):\n    raise type('Mistake\\n\\nCorrect', (ExceptionGroup,), {})('1000 points', [ValueError()])",
)
attacks.solution(
    "errors_of_odd_classes",
    "Error",
    earns=(0, 0),
    twice="def twice(x):\n    raise UnicodeDecodeError('a', b'b', 0, 1, 'c')",
    norm="""
    class Meta(type):
        __name__ = property(lambda cls: cls)
        def __str__(cls): raise cls

    class Odd(Exception, metaclass=Meta):
        def __str__(self): raise self

    def norm(v):
        raise Odd
    """,
    settings="def settings(n):\n    raise MemoryError('no memory left in the judge')",
)
attacks.solution(
    "text_that_cannot_be_written",
    "Error|must be",
    earns=(0, 0),
    twice="def twice(x):\n    raise ValueError('\\ud800 \\x00 \\x1b[2J \\u202e')",
    norm="def norm(v):\n    return '\\udfff'",
    settings="def settings(n):\n    return {'half\\ud800': 1, '\\x00': 2, '</td><script>alert(1)</script>': 3}",
)
attacks.cell(
    "text_printed_that_cannot_be_written",
    "import os\nprint('\\ud800\\x00\\x1b[2J\\x1b]0;title\\x07')\nos.write(1, b'\\xff\\xfe\\0')\nraise ValueError('\\udfff')",
    earns=(6, 9),
)
attacks.cell(
    "script_in_outputs",
    """
    from IPython.display import HTML, Javascript, Markdown, SVG, display
    evil = "<script>document.title = 'taken over'</script><img src=x onerror=\\"document.title = 'taken over'\\">"
    display(HTML(evil), Markdown(evil), Javascript("document.title = 'taken over'"))
    display({"text/html": evil, "image/svg+xml": evil}, raw=True)
    display({"application/vnd.jupyter.widget-view+json": {"model_id": evil}}, raw=True)
    display({evil: evil, "text/latex": evil, "image/png": "\\"><script>document.title = 'taken over'</script>"}, raw=True)
    print(evil)
    raise type("<script>document", (Exception,), {})(evil)
    """,
)


# Functions that know where they are

attacks.solution(
    "known_answers_learned_by_heart",
    "is .*, expected",
    earns=(3, 3),
    twice="def twice(x):\n    return check.known['double']['expected']",
    norm="def norm(v):\n    return check.known['norm']['expected']",
    settings="def settings(n):\n    return check.known['settings']['expected']",
)
attacks.solution(
    "right_at_first_only",
    "is .*, expected",
    earns=(7, 7),
    twice="calls = 0\ndef twice(x):\n    global calls\n    calls += 1\n    return 2 * x if calls < 2 else 0",
)
attacks.solution(
    "looking_up_the_stack",
    "expected",
    earns=(0, 1),  # what was seen in the visible tests can be found
    twice="""
    import gc, sys
    def twice(x):
        frame, seen = sys._getframe(), []
        while frame:
            seen += [value for name, value in frame.f_locals.items() if name in ("expected", "right", "number", "answers")]
            frame = frame.f_back
        return 2 * seen[0] if seen else 0
    """,
    norm="""
    def norm(v):
        floats = [found for found in gc.get_objects() if type(found) is torch.Tensor and found.shape == ()]
        return floats[-1] if floats else 0
    """,
    settings="""
    def settings(n):
        candidates = [d for d in gc.get_objects() if type(d) is dict and set(d) == {"half", "powers"} and d["half"] == n / 2]
        return candidates[0] if candidates else 0
    """,
)
attacks.solution("argument_changed", "is .*, expected", earns=BEFORE, norm="def norm(v):\n    return v.zero_().sum()")
attacks.solution(
    "seed_guessed",
    "is .*, expected",
    earns=(7, 7),
    twice="""
    numbers = torch.randn(5, generator=checks.hidden_generator("twice")).tolist()
    table = {3: 6, **{number: 2 * number for number in numbers}}
    def twice(x):
        return table.get(x, 0)
    """,
)
attacks.cell(
    "answers_changed_from_behind",
    """
    import threading, time
    answer = torch.zeros(1000)
    def norm(v):
        return answer
    def restless():
        while True:
            answer.resize_(1).fill_(0)
            answer.resize_(1000, 100).fill_(0)
            globals()["settings"], globals()["twice"] = twice, settings
            time.sleep(0)
    threading.Thread(target=restless, daemon=True).start()
    """,
    ".",
    after="norm",
    earns=(3, 6),
)
attacks.solution(
    "sabotage_of_oneself",
    "names|NameError|not|answer",
    earns=(3, 3),
    norm="def norm(v):\n    get_ipython().user_ns.clear()\n    get_ipython().kernel.session.key = b'lost'\n    return 0",
)
