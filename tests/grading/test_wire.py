"""Between the student's kernel and the judge: plain data arrive as they are, and nothing else does, however it is sent."""

import json
import math
import string
import time
import tracemalloc
from collections import namedtuple
from types import SimpleNamespace

import IPython
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from ipykernel.iostream import OutStream

from vaecourse.grading.authoring import plain
from vaecourse.grading.authoring.plain import Opaque, decode, encode
from vaecourse.grading.marking import wire
from vaecourse.grading.marking.wire import StudentError, answer, clean, serve

pytestmark = pytest.mark.usefixtures("no_shape_checks")  # the judge runs without them, and must refuse by itself
PROPERTY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def same(a, b) -> bool:
    """Whether two values are of the same types, with the same parts; NaN is NaN."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and same(a.numpy(), b.numpy())
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a.items(), b.items(), strict=True))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (a != a and b != b)


# Plain data

ARRAYS = hnp.arrays(
    st.one_of(
        hnp.boolean_dtypes(),
        hnp.integer_dtypes(endianness="<"),
        hnp.unsigned_integer_dtypes(endianness="<"),
        hnp.floating_dtypes(endianness="<", sizes=(16, 32, 64)),
        hnp.complex_number_dtypes(endianness="<", sizes=(64, 128)),
    ),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3),
)
KEYS = st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.tuples(st.integers(), st.text()))
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text())
PLAIN = st.recursive(
    st.one_of(SCALARS, ARRAYS, ARRAYS.map(torch.from_numpy)),
    lambda part: st.one_of(
        st.lists(part, max_size=4), st.lists(part, max_size=4).map(tuple), st.dictionaries(KEYS, part, max_size=4)
    ),
    max_leaves=10,
)


@given(PLAIN)
@PROPERTY
def test_plain_data_arrive_as_they_were_sent(value):
    assert same(decode(encode(value)), value)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -0.0,
        math.inf,
        math.nan,
        10**4000,
        "Zoë \U0001f600 \ud800 \x00",
        [],
        (),
        {},
        {None: (1, [2.0]), 1: "one", (1, 2): {"deep": torch.ones(2)}},
        torch.tensor(1.5),
        torch.zeros(2, 0, 3),
        torch.tensor([True, False]),
        torch.tensor([1 + 2j]),
        torch.ones(2, dtype=torch.float16),
        torch.ones(2, dtype=torch.int8),
        np.array(3, "i2"),
        np.ones((1,) * 16),
    ],
    ids=lambda value: str(value)[:30].encode("ascii", "replace").decode().replace("\n", " ").replace("\x00", "?"),
)
def test_these_values_arrive_as_they_were_sent(value):
    assert same(decode(encode(value)), value)


@pytest.mark.parametrize(
    "sent, arrives",
    [
        (torch.tensor([1.5], dtype=torch.bfloat16), torch.tensor([1.5])),
        (torch.tensor([2.0], requires_grad=True), torch.tensor([2.0])),
        (torch.nn.Parameter(torch.tensor([2.0])), torch.tensor([2.0])),
        (torch.arange(6).reshape(2, 3).T, torch.tensor([[0, 3], [1, 4], [2, 5]])),
        (torch.ones(1).expand(3), torch.ones(3)),
        (torch.tensor([1 + 2j]).conj(), torch.tensor([1 - 2j])),
        (torch.tensor([1 + 2j]).conj().imag, torch.tensor([-2.0])),
        (np.float32(1.5), np.array(1.5, "f4")),
        (np.bool_(True), np.array(True)),
        (np.arange(4)[::-2], np.array([3, 1])),
        (torch.Size([2, 3]), (2, 3)),
        (namedtuple("Pair", "a b")(1, 2), (1, 2)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_tensors_and_lists_of_other_kinds_arrive_as_the_usual_ones(sent, arrives):
    assert same(decode(encode(sent)), arrives)


def test_an_array_that_arrived_can_be_written_to():
    array, tensor = decode(encode([np.ones(2), torch.ones(2)]))
    array += 1
    tensor += 1
    assert array.tolist() == tensor.tolist() == [2, 2]


# What is no plain data


class Number(float):
    """Looks like a number, and need not be one."""


@pytest.mark.parametrize(
    "value, name",
    [
        (object(), "object"),
        (len, "builtin_function_or_method"),
        ({1, 2}, "set"),
        (b"bytes", "bytes"),
        (range(3), "range"),
        (Number(6), "Number"),
        (np.str_("text"), "str_"),
        (np.array(["text"]), "ndarray"),
        (np.array([None]), "ndarray"),
        (np.array([(1, 2.0)], [("a", "i4"), ("b", "f8")]), "ndarray"),
        (np.ones(2, ">f8"), "ndarray"),
        (np.array(["2020-01-01"], "M8[D]"), "ndarray"),
        (type("A" * 60, (), {})(), "object"),
        (type("not a name", (), {})(), "object"),
        (type("<script>", (), {})(), "object"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_anything_else_arrives_as_nothing_but_the_name_of_its_type(value, name):
    arrived = decode(encode(value))
    assert isinstance(arrived, Opaque) and type(arrived).__name__ == name and not vars(arrived)


@pytest.mark.parametrize(
    "value", [torch.eye(2).to_sparse(), torch.empty(2, device="meta"), torch.ones(1).to(torch.float8_e5m2)]
)
def test_a_tensor_without_plain_numbers_is_an_error_where_it_is_sent(value):
    with pytest.raises((TypeError, RuntimeError)):
        encode(value)


def cyclic():
    part = []
    part.append({"again": part})
    return part


def nested(depth: int):
    return [nested(depth - 1)] if depth else 0


FEW = 10_000


@pytest.fixture
def few_entries(monkeypatch):
    """A lower limit, which is reached sooner."""
    monkeypatch.setattr(plain, "ITEMS_AT_MOST", FEW)


class Endless(dict):
    """A dictionary that never ends."""

    def items(self):
        while True:
            yield "key", 0


@pytest.mark.parametrize(
    "value, message",
    [
        (cyclic(), "more than 40 deep"),
        (nested(41), "more than 40 deep"),
        ([0] * FEW, "more than 10,000 entries"),
        (Endless(), "more than 10,000 entries"),
        ("x" * plain.CHARACTERS_AT_MOST, "more than 8,000,000 characters"),
        (torch.zeros(1).expand(10**12), "a tensor of 4,000,000,000,000 bytes"),
        (np.broadcast_to(0.0, (10**7,)), "a tensor of 80,000,000 bytes"),
        ([torch.zeros(700_000), torch.zeros(900_000)], "more than 8,000,000 characters"),
        (1 << 33_000_000, "digits"),
    ],
    ids=["cyclic", "deep", "long", "endless", "text", "expanded", "broadcast", "tensors", "digits"],
)
def test_what_holds_too_much_is_not_sent(value, message, few_entries):
    with pytest.raises(ValueError, match=message):
        encode(value)


def test_the_limits_themselves_are_kept(few_entries):
    assert same(decode(encode(nested(40))), nested(40))
    assert len(decode(encode([0] * (FEW - 1)))) == FEW - 1
    assert len(decode(encode(dict.fromkeys(range(plain.KEYS_AT_MOST))))) == plain.KEYS_AT_MOST


# What a kernel may send that is not ours any more


def tensor(dtype="<f4", shape=(1,), data="AAAAAA==", kind="tensor") -> str:
    return json.dumps({kind: [dtype, shape, data]})


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "Expecting value"),
        ("no JSON", "Expecting value"),
        ("\ud800", "Expecting value"),
        ("1 2", "Extra data"),
        ("9" * 5000, "digits"),
        (" " * (plain.CHARACTERS_AT_MOST + 1), "more than 8,000,000 characters"),
        ("[]", "a list without its mark"),
        ('{"list": [[1]]}', "a list without its mark"),
        ("{}", "not enough values"),
        ('{"list": [], "tuple": []}', "too many values"),
        ('{"set": []}', "unknown mark 'set'"),
        (json.dumps({"x" * 1000: 1}), f"unknown mark '{'x' * 60}'$"),
        ('{"list": 5}', "not plain data"),
        ('{"dict": 5}', "not plain data"),
        ('{"dict": [5]}', "not plain data"),
        ('{"dict": [[1, 2, 3]]}', "too many values"),
        ('{"dict": [[{"list": []}, 1]]}', "not plain data: unhashable"),
        ('{"dict": [[{"array": ["<f4", [1], "AAAAAA=="]}, 1]]}', "not plain data: unhashable"),
        ('{"tensor": null}', "not plain data"),
        ('{"tensor": ["<f4", [1]]}', "not plain data"),
        ('{"tensor": ["<f4", [1], "AAAAAA==", 1]}', "not plain data"),
        (tensor("|O"), "something else than numbers"),
        (tensor("<U1"), "something else than numbers"),
        (tensor(">f4"), "something else than numbers"),
        (tensor("f4,f4"), "something else than numbers"),
        (tensor("<f16"), "something else than numbers"),
        (tensor(["<f4"]), "not plain data: unhashable"),
        (tensor(None), "something else than numbers"),
        (tensor(shape=[-1]), "something else than numbers"),
        (tensor(shape=[True]), "something else than numbers"),
        (tensor(shape=[1.0]), "something else than numbers"),
        (tensor(shape=["1"]), "something else than numbers"),
        (tensor(shape=[10**9, 0], data=""), "something else than numbers"),
        (tensor(shape=[1] * 17), "something else than numbers"),
        (tensor(shape=1), "not plain data"),
        (tensor(shape=None), "not plain data"),
        (tensor(shape={}), "not plain data"),
        (tensor(shape=[2]), "size is not that of its data"),
        (tensor(shape=[]), None),
        (tensor(shape=[0, 8_000_000, 8_000_000, 8_000_000], data=""), "too big"),
        (tensor(shape=[8_000_000] * 16), "size is not that of its data"),
        (tensor(data=""), "size is not that of its data"),
        (tensor(data="A"), "padding|base64|characters"),
        (tensor(data="AAAA AA=="), "base64|alphabet|characters"),
        (tensor(data="é"), "ASCII"),
        (tensor(data=None), "not plain data"),
        (tensor(kind="array", data=[0]), "not plain data"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_text_that_encode_does_not_write_is_refused_with_a_reason(text, message):
    if message is None:
        assert decode(text).item() == 0
        return
    with pytest.raises(ValueError, match=message):
        decode(text)


MARKS = ["list", "tuple", "dict", "tensor", "array", "opaque", "set"]
WORDS = st.one_of(SCALARS, st.sampled_from(["<f8", "|b1", "<c8", "|O", "AAAAAAAA8D8=", "AA==", 0, 1, 8]))
FORGED = st.recursive(
    WORDS,
    lambda part: st.one_of(
        st.lists(part, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(MARKS), st.text(max_size=3)), part, max_size=2),
        st.tuples(st.sampled_from(MARKS), st.lists(part, max_size=4)).map(lambda pair: {pair[0]: pair[1]}),
        st.lists(st.lists(part, min_size=2, max_size=2), max_size=3).map(lambda pairs: {"dict": pairs}),
    ),
    max_leaves=20,
)


@given(st.one_of(FORGED.map(json.dumps), st.text(string.printable, max_size=30)))
@PROPERTY
def test_whatever_arrives_is_plain_data_or_a_value_error(text):
    try:
        value = decode(text)
    except ValueError:
        return
    parts = [value]
    while parts:
        part = parts.pop()
        assert type(part) in (type(None), bool, int, float, str, list, tuple, dict, torch.Tensor, np.ndarray) or (
            isinstance(part, Opaque) and not vars(part)
        )
        parts += [*part, *part.values()] if isinstance(part, dict) else part if isinstance(part, list | tuple) else []


PRIME = 2**61 - 1  # all its multiples have the same hash, 0
BOMBS = {
    "deep lists": 8_000_000 * "[",
    "deep marks": 800_000 * '{"list":[',
    "short lists": "[" + 600_000 * "[]," + "0]",
    "many lists": '{"list":[' + 200_000 * '{"list":[]},' + "0]}",
    "many numbers": '{"list":[' + 1_100_000 * "0," + "0]}",
    "many types": '{"list":[' + ",".join(f'{{"opaque":"a{n}"}}' for n in range(300_000)) + "]}",
    "a long number": "0." + 7_900_000 * "1",
    "a shape without end": tensor(shape=[0, *[8_000_000] * 15], data=""),
    "keys of one hash": '{"dict":[' + ",".join(f"[{n * PRIME},0]" for n in range(250_000)) + "]}",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_takes_little_time(bomb):
    started = time.process_time()
    try:
        decode(BOMBS[bomb])
    except ValueError as error:
        assert len(str(error)) < 200
    assert time.process_time() - started < 5


def test_many_types_take_little_memory():
    tracemalloc.start()
    with pytest.raises(ValueError, match="values of more than 100 types"):
        decode(BOMBS["many types"][:2_000_000].rpartition(",")[0] + "]}")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6  # of JSON; the types themselves would take as much again
    same_type = decode('{"list":[' + 1000 * '{"opaque":"Net"},' + "0]}")
    assert {type(part) for part in same_type[:-1]} == {type(same_type[0])}


# The student's side and the judge's, together


class Meta(type):
    """A class of classes whose name is no text."""

    __name__ = property(lambda cls: cls)


class Odd(Exception, metaclass=Meta):
    """An error that cannot be named."""


class Mute(Exception):
    """An error that cannot be put in words."""

    def __str__(self):
        raise self


def raising(error):
    def function(*_, **__):
        raise error

    return function


def ask(names: dict, **request):
    """As the judge asks, but in one process."""
    return answer(serve(names, encode(request)))


def call(function, *args, **kwargs):
    return ask({"f": function}, call="f", args=list(args), kwargs=kwargs)


def test_a_function_is_called_with_what_the_test_gives_and_gives_back_what_it_returns():
    assert call(lambda a, *, b: {"sum": a + b}, 1, b=torch.tensor([2.0]))["sum"].tolist() == [3]
    assert call(lambda: None) is None
    assert call(lambda *args: args, [1], (2,)) == ([1], (2,))


def test_what_a_function_does_to_its_arguments_the_judge_does_not_see():
    ours = torch.ones(2)
    assert call(lambda v: v.zero_(), ours).tolist() == [0, 0]
    assert ours.tolist() == [1, 1]


def test_a_look_says_what_is_defined_what_can_be_called_and_what_the_rest_is():
    names = {"f": len, "n": 3, "net": object()}
    seen = ask(names, look=["f", "n", "net", "missing"])
    assert seen["f"] == [True, None] and seen["n"] == [False, 3] and "missing" not in seen
    assert seen["net"][0] is False and isinstance(seen["net"][1], Opaque)


def test_a_reply_is_shown_by_the_kernel_without_quotes():
    reply = serve({"f": lambda: "'\n"}, encode({"call": "f", "args": [], "kwargs": {}}))
    assert repr(reply) == reply and "\n" not in reply


@pytest.mark.parametrize(
    "error",
    [kind("what went wrong") for kind in wire.KNOWN_ERRORS if kind is not KeyError],
    ids=lambda error: type(error).__name__,
)
def test_an_error_that_a_test_may_ask_for_comes_back_as_what_it_is(error):
    with pytest.raises(type(error), match=r"^what went wrong$") as caught:
        call(raising(error))
    assert type(caught.value) is type(error)


@pytest.mark.parametrize(
    "error, words",
    [
        (AssertionError("all well"), "AssertionError: all well"),
        (type("Mistake", (AssertionError,), {})("all well"), "Mistake: all well"),
        (NameError("no name", name="torch"), "NameError: no name"),
        (StopIteration(), "StopIteration: "),
        (GeneratorExit(), "GeneratorExit: "),
        (KeyboardInterrupt(), "KeyboardInterrupt: "),
        (SystemExit(0), "SystemExit: 0"),
        (MemoryError("none left"), "MemoryError: none left"),
        (UnicodeDecodeError("a", b"b", 0, 1, "c"), "UnicodeDecodeError: 'a' codec"),
        (ExceptionGroup("many", [ValueError()]), "ExceptionGroup: many"),
        (type("ValueError ", (Exception,), {})("x"), "Exception: x"),
        (type("Mistake\n\nCorrect", (Exception,), {})("x"), "Exception: x"),
        (type("A" * 60, (Exception,), {})("x"), "Exception: x"),
        (Odd("x"), "Exception: x"),
        (ArithmeticError("\x1b[2J \u202e \ud800"), "ArithmeticError: \N{REPLACEMENT CHARACTER}[2J"),
        (ArithmeticError("x" * 10**6), "ArithmeticError: " + 2000 * "x" + "$"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_any_other_error_comes_back_as_words_and_cannot_act(error, words):
    with pytest.raises(StudentError) as caught:
        call(raising(error))
    assert str(caught.value).startswith(words.rstrip("$")) and (not words.endswith("$") or str(caught.value) == words[:-1])
    assert caught.value.__cause__ is None


def test_an_error_is_cut_to_two_thousand_characters():
    with pytest.raises(ValueError) as caught:
        call(raising(ValueError("x" * (plain.CHARACTERS_AT_MOST + 1))))
    assert str(caught.value) == 2000 * "x"


def test_an_error_that_cannot_be_put_in_words_is_no_reply():
    with pytest.raises(Mute):  # in the kernel, which then replies without a value
        serve({"f": raising(Mute())}, encode({"call": "f", "args": [], "kwargs": {}}))


@pytest.mark.parametrize(
    "value, message",
    [
        (cyclic(), "more than 40 deep"),
        ([0] * FEW, "entries"),
        (torch.zeros(1).expand(10**12), "bytes"),
    ],
    ids=["cyclic", "long", "large"],
)
def test_a_value_that_holds_too_much_comes_back_as_an_error(value, message, few_entries):
    with pytest.raises(ValueError, match=message):
        call(lambda: value)


@pytest.mark.parametrize(
    "request_", ["no JSON", "5", encode({"other": 1}), encode({"call": "missing", "args": [], "kwargs": {}})]
)
def test_a_request_that_cannot_be_answered_is_an_error_and_not_an_end(request_):
    with pytest.raises((StudentError, TypeError, KeyError)):
        answer(serve({}, request_))


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "no JSON \x1b[2J",
        "5",
        "null",
        '"ok"',
        '{"list": [1]}',
        '{"opaque": "Net"}',
        tensor(),
        tensor(kind="array"),
        encode({}),
        encode({"ok": 1, "error": ["ValueError", ""]}),
        encode({"error": 5}),
        encode({"error": ["ValueError"]}),
        encode({"error": ["ValueError", "a", "b"]}),
        '{"dict": [["ok", {"set": []}]]}',
        BOMBS["deep lists"],
        5,
        None,
        {"ok": 1},
        b"{}",
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_reply_that_makes_no_sense_is_said_to_be_of_no_use(reply):
    with pytest.raises(StudentError, match=r"^the answer cannot be used: ") as caught:
        answer(reply)
    assert clean(str(caught.value)) == str(caught.value)


@pytest.mark.parametrize("name", [5, None, [], {}, torch.ones(2), "", "a b", "A" * 60, "1a"], ids=str)
def test_an_error_whose_name_is_no_name_is_an_exception(name):
    with pytest.raises(StudentError, match=r"^Exception: words$"):
        answer(encode({"error": [name, "words"]}))


@pytest.mark.parametrize("words", [5, None, [1, 2], torch.ones(2), {"a": "\x00"}], ids=str)
def test_the_words_of_an_error_may_be_anything_and_arrive_as_text(words):
    with pytest.raises(ValueError) as caught:
        answer(encode({"error": ["ValueError", words]}))
    assert str(caught.value) == str(words)


@given(st.text())
@PROPERTY
def test_a_cleaned_text_can_be_written_and_is_as_long_as_before(text):
    cleaned = clean(text)
    cleaned.encode("utf-8")
    assert len(cleaned) == len(text) and clean(cleaned) == cleaned
    assert all(c.isprintable() or c in "\n\t" for c in cleaned)
    assert all(a == b for a, b in zip(text, cleaned, strict=True) if b != "\N{REPLACEMENT CHARACTER}")


def test_a_cleaned_text_keeps_letters_lines_and_tabs():
    text = "Zoë, \N{GREEK SMALL LETTER ALPHA}, \U0001f600:\n\t<b>1</b>"
    assert clean(text) == text
    assert clean("a\x00b\rc\x1bd\u202ee\ud800") == "a�b�c�d�e�"


# Printing


@pytest.fixture
def kernel(monkeypatch):
    """What `limit_output` finds in a kernel: streams, and an event before each cell, which `next_cell` sends."""
    written, before = {"stdout": "", "stderr": ""}, []

    def write(stream, text):
        written[stream.name] += text
        return len(text)

    monkeypatch.setattr(OutStream, "write", write)
    events = SimpleNamespace(register=lambda event, function: before.append((event, function)))
    monkeypatch.setattr(IPython, "get_ipython", lambda: SimpleNamespace(events=events))
    streams = {name: SimpleNamespace(name=name, write=write) for name in written}
    for name, stream in streams.items():
        monkeypatch.setattr(f"sys.{name}", stream)
    wire.limit_output(10)
    ((event, next_cell),) = before
    assert event == "pre_run_cell"
    return SimpleNamespace(
        written=written,
        streams=streams,
        out=lambda text: OutStream.write(streams["stdout"], text),
        err=lambda text: OutStream.write(streams["stderr"], text),
        next_cell=lambda: next_cell(None),
    )


def test_each_stream_takes_so_many_characters_in_a_cell_and_says_where_it_was_cut(kernel):
    assert [kernel.out("123456"), kernel.out("7890abc"), kernel.out("more"), kernel.out("x" * 10**6)] == [6, 7, 4, 10**6]
    assert kernel.written["stdout"] == "1234567890" + wire.CUT
    kernel.err("its own")
    assert kernel.written["stderr"] == "its own"


def test_each_cell_may_print_anew(kernel):
    kernel.out("x" * 100)
    kernel.next_cell()
    kernel.out("again")
    assert kernel.written["stdout"].endswith(wire.CUT + "again")


def test_the_old_way_to_print_is_gone_from_the_streams(kernel):
    assert not any("write" in vars(stream) for stream in kernel.streams.values())
