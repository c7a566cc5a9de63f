"""The README's first program runs as printed."""

import re
from pathlib import Path

import pynn

README = Path(__file__).parents[1] / "README.md"


def test_the_first_program(tmp_path, monkeypatch, capsys):
    (program,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    namespace = {}
    exec(compile(program, "README.md", "exec"), namespace)
    out = capsys.readouterr().out
    assert "parameters, " in out
    measured = pynn.evaluate(
        namespace["model"], namespace["loss"],
        (namespace["digits"].test_images / 255, namespace["digits"].test_labels),
    )  # fmt: skip
    assert measured["accuracy"] > 0.95
    assert set(pynn.io.load("digits.safetensors")) == set(namespace["model"].state_dict())
