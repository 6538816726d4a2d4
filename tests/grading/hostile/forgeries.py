"""Forged replies and messages of the kernel, and tools of the tests replaced in it."""

from hostile.attacks import BEFORE, ENDED, TIME, WRONG_VALUE, Attacks

attacks = Attacks()

# Forged answers and messages

REPLIES = {
    "replies_of_no_form": (
        "'6.0 {'",
        "'[6]'",
        """'{"ok": 6}'""",
        """'{"dict": [["ok", 6], ["points", 1000]]}'""",
        """'{"dict":[["error",{"list":["SystemExit","0"]}]]}'""",
        """'{"dict":[["ok",{"dict":[[{"tensor":["<f8",[1],"AAAAAAAAAAA="]},1],[{"list":[]},2]]}]]}'""",
    ),
    "replies_of_odd_arrays": (
        """'{"dict":[["ok",{"array":["<f8",[' + 2_000_000 * '9,' + '0],""]}]]}'""",
        """'{"dict":[["ok",{"tensor":["<f8",[4611686018427387904,2,2],""]}]]}'""",
        """'{"dict":[["ok",{"array":["O",[1],"AAAAAAAAAAA="]}]]}'""",
        """'{"dict":[["ok",{"array":["' + 2_000_000 * 'f8,' + '",[1],"AAAAAAAAAAA="]}]]}'""",
        """'{"dict":[["ok",{"array":[["f8"],{"a":1},7]}]]}'""",
        """'{"dict":[["ok",{"tensor":["<f8",[true,1],"AAAAAAAAAAA="]}]]}'""",
    ),
    "replies_of_many_parts": (
        "900_000 * '['",
        """100_000 * '{"list":[' + 100_000 * ']}'""",
        """'{"dict":[["ok",{"list":[' + 500_000 * '{"opaque":"a"},' + '1]}]]}'""",
        """'{"dict":[["ok",{"list":[' + 300_000 * '{"tensor":["<f4",[0],""]},' + '1]}]]}'""",
        """'{"dict":[["ok",{"list":[' + 2_500_000 * '[],' + '1]}]]}'""",
        """'{"dict":[["ok",' + 5000 * '9' + ']]}'""",
    ),
}
for _name, _replies in REPLIES.items():
    attacks.cell(
        _name,
        f"""
        from vaecourse.grading.marking import wire
        class Text(str):
            __repr__ = str.__str__
        replies = iter([{", ".join(f"lambda: {reply}" for reply in _replies)}])
        wire.serve = lambda *_: Text(next(replies)())
        """,
        "answer|Error|must be|SystemExit",
        after="packages",
        honest=False,
    )
attacks.cell(
    "reply_of_100_MB",
    "from vaecourse.grading.marking import wire\nwire.serve = lambda *_: 10**8 * 'x'",
    "answer|could no longer be understood",
    after="packages",
    honest=False,
)

attacks.cell(
    "reply_forged_in_the_kernel",
    """
    kernel = get_ipython().kernel
    send = kernel.session.send
    def forge(stream, message, content=None, *rest, **words):
        if str(message).endswith("_reply"):
            answer = '{"dict":[["ok",{"opaque":"int"}]]}'
            data = {"status": "ok", "data": {"text/plain": repr(answer)}, "metadata": {}}
            content = {"status": "ok", "execution_count": 1, "user_expressions": {"answer": data}, "points": 1000}
        return send(stream, message, content, *rest, **words)
    kernel.session.send = forge
    """,
    WRONG_VALUE + "|answer",
    after="packages",
    honest=False,
)
attacks.cell(
    "reply_of_many_megabytes",
    """
    kernel = get_ipython().kernel
    send = kernel.session.send
    def flood(stream, message, content=None, *rest, **words):
        if message == "execute_reply":
            content = dict(content, user_expressions={"answer": [7_000_000 * "[]"]})
            return [send(stream, message, content, *rest, **words) for _ in range(50)][0]
        return send(stream, message, content, *rest, **words)
    kernel.session.send = flood
    """,
    f"answer|{ENDED}|{TIME}",
    earns=(6, 9),
)
attacks.cell(
    "reply_to_the_wrong_question",
    """
    kernel = get_ipython().kernel
    send = kernel.session.send
    wrong = {"header": {"msg_id": ["?"]}, "parent_header": 7}
    kernel.session.send = lambda *given, parent=None, **words: send(*given, parent=wrong, **words)
    """,
    f"answer|{TIME}|{ENDED}",
    earns=BEFORE,
)
attacks.cell(
    "messages_without_form",
    """
    kernel = get_ipython().kernel
    parent = kernel.get_parent()
    types = ["stream", "display_data", "update_display_data", "execute_result", "error", "clear_output", "execute_input"]
    types += ["status", "comm_open", "comm_msg", "comm_close", "iopub_welcome", "execute_reply", "input_request", "", "\\x00"]
    contents = [{}, [], None, "text", 7, {"name": 5, "text": 7}, {"name": "stdout", "text": ["a", {}]}]
    contents += [{"data": 7, "metadata": None}]
    contents += [{"data": {"text/html": 7, "image/png": {}, "": []}, "metadata": [], "execution_count": "many"}]
    contents += [{"data": {"text/plain": "x"}, "metadata": {}, "transient": {"display_id": [1]}, "execution_count": {}}]
    contents += [{"ename": 5, "evalue": None, "traceback": "x"}, {"ename": [], "evalue": {}, "traceback": [7, None]}]
    contents += [{"wait": "no"}, {"execution_state": ["idle"]}, {"execution_count": 3.5}, {"comm_id": [], "data": 7}]
    for kind in types:
        for content in contents:
            for stream in (kernel.iopub_socket, kernel.stdin_socket):
                try:
                    kernel.session.send(stream, kind, content, parent=parent)
                except Exception:
                    pass
    """,
    earns=(6, 9),
)
attacks.cell(
    "messages_that_are_none",
    """
    kernel = get_ipython().kernel
    socket = kernel.iopub_socket
    for parts in ("", "<IDS|MSG>", "x <IDS|MSG> - { {} {} {}", "x <IDS|MSG> " + 50 * "x ", 3_000_000 * "x"):
        socket.send_multipart(parts.encode().split(b" "))
    key, kernel.session.key = kernel.session.key, b"another key"
    kernel.session.send(socket, "stream", {"name": "stdout", "text": "signed by nobody"}, parent=kernel.get_parent())
    kernel.session.key = key
    """,
    earns=(6, 9),
)
attacks.cell(
    "idle_forever",
    """
    kernel = get_ipython().kernel
    result = {"data": {"text/plain": "9 of 9"}, "metadata": {}, "execution_count": 1}
    for _ in range(200):
        for kind, content in (("status", {"execution_state": "idle"}), ("execute_result", result)):
            kernel.session.send(kernel.iopub_socket, kind, content, parent=kernel.get_parent())
    """,
    earns=(6, 9),
)
attacks.cell(
    "connection_file_changed",
    """
    import ipykernel, os
    path = ipykernel.get_connection_file()
    folder = os.path.dirname(path)
    for name in os.listdir(folder):
        try:
            os.unlink(f"{folder}/{name}")
            os.symlink(SECRETS[0], f"{folder}/{name}")
        except OSError as error:
            print(error)
    """,
    earns=(6, 9),
)
attacks.cell(
    "printed_verdict",
    """
    for exercise in ("twice", "norm", "settings"):
        print(f"{exercise}: correct.")
    print('{"cell": "twice_hidden", "points": 2, "earned": 1000}')
    """,
    WRONG_VALUE,
    after="settings_hidden",
    honest=False,
)


# Tools taken away

PATCHES = {
    "torch": """
        def yes(*_, **__):
            return torch.tensor(True)
        torch.isclose = torch.allclose = torch.equal = torch.as_tensor = yes
        for name in ("__eq__", "isclose", "allclose", "equal", "double", "detach", "numpy", "all"):
            setattr(torch.Tensor, name, yes)
        torch.Tensor = type("Tensor", (), {})
    """,
    "numpy": """
        import numpy as np
        np.ndarray, np.generic, np.asarray = object, object, lambda *_, **__: np
        np.testing.assert_allclose = np.allclose = np.isclose = lambda *_, **__: True
    """,
    "builtins": """
        import builtins
        yes = lambda *_, **__: True
        builtins.isinstance = builtins.all = builtins.any = builtins.abs = builtins.zip = yes
        builtins.AssertionError = builtins.Exception = builtins.BaseException = type("Never", (BaseException,), {})
        builtins.print = builtins.repr = builtins.str = yes
    """,
    "modules": """
        import sys
        class Yes(type(sys)):
            def __getattr__(self, name): return self
            def __call__(self, *_, **__): return True
        for name in ("torch", "numpy", "json", "base64", "vaecourse.grading.checks", "vaecourse.grading.marking.wire"):
            sys.modules[name] = Yes(name)
        sys.meta_path.clear()
        sys.path.clear()
    """,
    "checks": """
        from vaecourse.grading import checks
        checks.Mistake = type("Fine", (), {})
        checks.compare = checks.agree = checks.close = lambda *_, **__: True
        checks.Check.__call__ = checks.Check.loads = lambda *_, **__: None
        checks.hidden_generator = lambda exercise: torch.Generator()
    """,
    "code_of_the_checks": """
        for function in (checks.compare, checks.agree, checks.close, checks.tensor):
            function.__code__ = (lambda *_, **__: True).__code__
    """,
    "names_of_the_tests": """
        class Yes:
            def __getattr__(self, name): return self
            def __call__(self, *_, **__): return self
            def __iter__(self): return iter(())
        check = checks = torch = number = numbers = v = got = n = Yes()
        print = zip = map = AssertionError = Exception = Yes()
        __builtins__ = {}
    """,
    "shell": """
        import ast
        shell = get_ipython()
        class Quiet(ast.NodeTransformer):
            def visit_Module(self, node): return ast.parse("'9 of 9'")
        shell.ast_transformers.append(Quiet())
        shell.input_transformers_post.append(lambda lines: ["'9 of 9'"])
        shell.showtraceback = shell.showsyntaxerror = shell._showtraceback = lambda *_, **__: None
        shell.set_custom_exc((BaseException,), lambda *_, **__: None)
        shell.events.register("pre_run_cell", lambda info: shell.user_ns.clear())
        six = {"status": "ok", "data": {"text/plain": "6"}}
        shell.user_expressions = lambda expressions: dict.fromkeys(expressions, six)
    """,
    "shell_s_names": """
        class Names(dict):
            def __getitem__(self, name): return 6
            def __contains__(self, name): return True
            get = pop = __getitem__
        get_ipython().user_ns = get_ipython().user_global_ns = Names()
    """,
    "kernel": """
        kernel = get_ipython().kernel
        async def execute(*_, **__):
            return {"status": "ok", "execution_count": 1, "payload": [], "user_expressions": {}}
        kernel.do_execute = execute
        kernel.shell_handlers["execute_request"] = lambda *_, **__: None
    """,
    "trace": """
        import sys, threading
        def trace(frame, event, argument):
            frame.f_locals.update(value=6, got=6, expected=0)
            return trace
        sys.settrace(trace)
        sys.setprofile(lambda *_: None)
        threading.settrace(trace)
    """,
    "files_that_shadow_modules": """
        import os
        from pathlib import Path
        for folder in (".", os.environ["HOME"], "/tmp"):
            for name in ("torch", "json", "nbformat", "vaecourse", "sitecustomize", "usercustomize", "ast", "IPython"):
                Path(folder, f"{name}.py").write_text("raise SystemExit('taken over')")
        Path("/tmp/ipython/profile_default/startup").mkdir(parents=True, exist_ok=True)
        Path("/tmp/ipython/profile_default/startup/0.py").write_text("twice = 6")
    """,
}
for _name, _code in PATCHES.items():
    attacks.cell(f"patched_{_name}", _code, f"{WRONG_VALUE}|answer|Error|{TIME}|{ENDED}", after="packages", honest=False)
