"""Build, test and measure the CUDA back end on a machine with a GPU, in one go.

    python benchmarks/gpu_check.py --json gpu.json [--data FOLDER] [--minutes 10]

It needs nvcc, and in the environment of its Python: NumPy, scikit-build-core, pybind11, Cython,
CMake, Ninja, pytest and hypothesis. Nothing is downloaded, and nothing is installed but into
build/gpu_check. PyTorch with CUDA is measured beside pynn where it is there. Every number has its
precision beside it; one that could not be measured, the reason. The file is written after each
part.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import time
import traceback
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "gpu_check"
SITE = WORK / "site"
# What each part may take, in seconds, when ten minutes are there for all.
SHARES = {
    "build": 200, "tests": 90, "sanitizer": 60, "ceilings": 20, "products": 20, "convolutions": 20,
    "steps": 140, "mnist": 25,
}  # fmt: skip
MEASURED = ("ceilings", "products", "convolutions", "steps", "mnist")
NEEDED = ("numpy", "scikit-build-core", "pybind11", "cython", "pytest", "hypothesis")
STEPS = 64  # of an epoch that is timed beside a library's
Save = Callable[[dict[str, Any]], Any]


class Check:
    """The report under way, and the time that is left."""

    def __init__(self, path: Path, minutes: float) -> None:
        self.path, self.begin, self.minutes = path, time.monotonic(), minutes
        self.report: dict[str, Any] = {"complete": False}

    def left(self) -> float:
        """Seconds that are left for everything."""
        return max(self.minutes * 60 - (time.monotonic() - self.begin) - 5, 1)

    def run(self, part: str, function: Callable[[float], Any]) -> None:
        """Do one part; what goes wrong is written down, and the next part begins."""
        begin = time.monotonic()
        try:
            result: Any = function(min(SHARES[part] * self.minutes / 10, self.left()))
        except Exception as error:
            result = {"error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
        self.report[part] = result
        self.report[part + "_seconds"] = round(time.monotonic() - begin, 1)
        self.path.write_text(json.dumps(self.report, indent=1))
        text = result.get("error") if isinstance(result, dict) else None
        print(f"{part}: {text or 'done'} ({self.report[part + '_seconds']} s)", flush=True)


def command(
    arguments: list[str], seconds: float, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a program from the repository; its output is text.

    Raises:
        TimeoutExpired: it took longer. It and what it has started were interrupted, and killed
            where they did not end; the exception has what they had said.
    """
    path = os.pathsep.join(filter(None, [str(SITE), os.environ.get("PYTHONPATH")]))
    with subprocess.Popen(
        arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        errors="replace", start_new_session=True,
        env=os.environ | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"} | environment,
    ) as process:  # fmt: skip
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            end(process, signal.SIGINT)  # pytest writes its report
            try:
                out, err = process.communicate(timeout=15)
            except subprocess.TimeoutExpired:
                end(process, signal.SIGKILL)
                out, err = process.communicate()
            raise subprocess.TimeoutExpired(arguments, seconds, out, err) from None
        except KeyboardInterrupt:
            end(process, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def end(process: subprocess.Popen[str], by: signal.Signals) -> None:
    """Send a signal to a process and to what it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, by)


def version(package: str) -> str | None:
    """Of a package that is installed; None where it is not."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def tail(text: str, lines: int = 30) -> str:
    """The end of a long output."""
    return "\n".join(text.splitlines()[-lines:])


def build(seconds: float) -> dict[str, Any]:
    """Build pynn with CUDA, for the GPU that is here alone, into a folder of its own."""
    versions = {package: version(package) for package in NEEDED}
    absent = [package for package, found in versions.items() if found is None]
    if absent:
        raise RuntimeError(f"this Python has no {', '.join(absent)}")
    shutil.rmtree(SITE, ignore_errors=True)
    nvcc = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    done = command(
        [
            sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps",
            "--no-build-isolation", "--disable-pip-version-check", "--target", str(SITE), ".",
            "-C", "cmake.define.PYNN_CUDA=ON", "-C", f"build-dir={WORK / 'cmake'}",
            "-C", "cmake.define.CMAKE_CUDA_ARCHITECTURES=native",
            "-C", f"cmake.define.CMAKE_CUDA_COMPILER={nvcc}",
        ],
        seconds, CMAKE_BUILD_PARALLEL_LEVEL=str(os.cpu_count()),
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"with {versions}:\n{tail(done.stdout + done.stderr)}")
    size = next(SITE.glob("pynn/_cuda*")).stat().st_size
    compiler = tail(command([nvcc, "--version"], 30).stdout, 2)
    return {"nvcc": compiler, "versions": versions, "module_bytes": size}


def tests(seconds: float) -> dict[str, Any]:
    """tests/cuda on the GPU."""
    results = WORK / "tests.xml"
    results.unlink(missing_ok=True)
    arguments = [
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/cuda",
        f"--junitxml={results}",
    ]  # fmt: skip
    found: dict[str, Any] = {}
    try:  # plugins of other packages may warn, and warnings are errors
        done = command(arguments, seconds, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
        said = done.stdout + done.stderr
    except subprocess.TimeoutExpired as late:
        said = text_of(late)
        found["error"] = f"stopped after {seconds:.0f} s"
    if not results.exists():
        raise RuntimeError(f"{found.get('error', 'pytest wrote no report')}: {tail(said)}")
    suite = ET.parse(results).getroot().find("testsuite")
    assert suite is not None
    for name in ("tests", "failures", "errors", "skipped"):
        found[name] = int(suite.attrib[name])
    failed: dict[str, str] = {}
    for case in suite.iter("testcase"):
        for problem in (*case.findall("failure"), *case.findall("error")):
            name = f"{case.attrib['classname']}::{case.attrib['name']}"
            failed[name] = (problem.text or "")[-1500:] if len(failed) < 20 else ""
    return found | {"failed": failed}


def text_of(late: subprocess.TimeoutExpired) -> str:
    """What a program had said when its time was over."""
    return f"{late.stdout or ''}{late.stderr or ''}"


def sanitizer(seconds: float) -> dict[str, Any]:
    """compute-sanitizer over the operators' tests, as many as there is time for."""
    tool = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if not Path(tool).exists():
        return {"error": "compute-sanitizer was not found"}
    result = {}
    for kind in ("memcheck", "racecheck", "initcheck"):
        try:
            done = command(
                [
                    tool, f"--tool={kind}", "--error-exitcode=9", "--target-processes=all",
                    sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider",
                    "tests/cuda/test_operators.py", "-k", "same_bits or (nodes and float32)",
                ],
                seconds / 3, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1",
            )  # fmt: skip
            result[kind] = "clean" if done.returncode == 0 else tail(done.stdout, 20)
        except subprocess.TimeoutExpired as late:
            reported = [line for line in text_of(late).splitlines() if "=========" in line]
            result[kind] = f"not done in {seconds / 3:.0f} s; reported until then: " + (
                "\n".join(reported[:40]) or "nothing"
            )
    return result


def timed(run: Callable[[], Any], wait: Callable[[], Any], seconds: float) -> float:
    """The median of several rounds, in seconds a call; the queue is empty before and after each."""
    run()
    wait()
    begin = time.perf_counter()
    run()
    wait()
    once = max(time.perf_counter() - begin, 1e-6)
    rounds = 7
    count = max(1, min(int(seconds / rounds / once), 5000))
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        for _ in range(count):
            run()
        wait()
        times.append((time.perf_counter() - begin) / count)
    return statistics.median(times)


def torch_module() -> Any:
    """PyTorch, where it sees the GPU; otherwise None."""
    try:
        import torch
    except ImportError:
        return None
    return torch if torch.cuda.is_available() else None


def ceilings(seconds: float) -> dict[str, Any]:
    """What memory and arithmetic reach here: the measure of everything else."""
    from pynn.backends import cuda_module

    _cuda = cuda_module()
    result: dict[str, Any] = {"device": _cuda.describe(), "libraries": _cuda.libraries()}
    result["copy_GB_per_s"] = round(_cuda.copy_rate(1 << 30, 20) / 1e9, 1)
    torch = torch_module()
    if torch is None:
        result["arithmetic"] = "not measured: PyTorch with CUDA is not here"
        return result
    for name, dtype, tf32 in (
        ("float32", torch.float32, False), ("tf32", torch.float32, True),
        ("bf16", torch.bfloat16, False),
    ):  # fmt: skip
        torch.backends.cuda.matmul.allow_tf32 = tf32
        a = torch.randn(8192, 8192, device="cuda", dtype=dtype)
        each = timed(lambda a=a: a @ a, torch.cuda.synchronize, seconds / 8)
        result[f"matmul_{name}_TFLOP_per_s"] = round(2 * 8192**3 / each / 1e12, 1)
    torch.backends.cuda.matmul.allow_tf32 = False
    return result


def beside(
    library: str,
    set_large: Callable[[float | None], float],
    cases: list[tuple[dict[str, Any], Callable[[], Any], tuple[int, ...]]],
    seconds: float,
) -> dict[str, Any]:
    """Steps by pynn's kernels and by a library, of models whose outputs are as their inputs."""
    import numpy as np

    import pynn
    from pynn import nn, optim

    rows: list[dict[str, Any]] = []
    for precision in ("float32", "tf32"):
        for described, make, shape in cases:
            row: dict[str, Any] = {"precision": precision} | described
            for name, flops in (("pynn", float("inf")), (library, 0.0)):
                set_large(flops)
                model = make()
                rng = np.random.default_rng(0)
                x = pynn.cuda.asarray(rng.standard_normal(shape).astype(np.float32))
                with pynn.backend("cuda", precision=precision):
                    optimizer = optim.SGD(model.parameters(), lr=1e-3)
                    step = pynn.compile(model, nn.MSELoss(), optimizer)
                    order = np.tile(np.arange(shape[0]), STEPS)
                    row[name] = timed(
                        lambda step=step, x=x, order=order, batch=shape[0]: step.epoch(
                            x, x, order, batch_size=batch, scale=1.0
                        ),
                        pynn.cuda.synchronize, seconds / len(cases) / 5,
                    ) / STEPS  # fmt: skip
            row[f"pynn / {library}"] = round(row["pynn"] / row[library], 2)
            rows.append(row)
    set_large(None)
    return {"seconds_of_a_step": rows}


def products(seconds: float) -> dict[str, Any]:
    """Steps of two dense layers by pynn's kernels and by cuBLASLt: where large products begin."""
    from pynn import nn
    from pynn.backends import cuda_module

    _cuda = cuda_module()
    if "cuBLASLt not found" in _cuda.libraries():
        return {"seconds_of_a_step": "not measured: cuBLASLt was not found"}

    def case(batch: int, size: int) -> tuple[dict[str, Any], Callable[[], Any], tuple[int, ...]]:
        described = {"batch": batch, "size": size, "flops_of_a_product": 2 * batch * size * size}

        def make() -> Any:
            return nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Linear(size, size))

        return described, make, (batch, size)

    sizes = [(64, 512), (128, 1024), (128, 2048), (128, 4096), (512, 4096)]
    cases = [case(*each) for each in sizes]
    return beside("cuBLASLt", _cuda.set_large_product, cases, seconds)


def convolutions(seconds: float) -> dict[str, Any]:
    """Steps of two convolutions by pynn's kernels and by cuDNN: where large ones begin."""
    from pynn import nn
    from pynn.backends import cuda_module

    _cuda = cuda_module()
    if "cuDNN not found" in _cuda.libraries():
        return {"seconds_of_a_step": "not measured: cuDNN was not found"}

    def case(
        batch: int, channels: int, pixels: int
    ) -> tuple[dict[str, Any], Callable[[], Any], tuple[int, ...]]:
        values = batch * channels * pixels * pixels
        described = {
            "batch": batch, "channels": channels, "pixels": pixels,
            "flops_of_a_convolution": 18 * channels * values, "values_of_its_images": 2 * values,
        }  # fmt: skip

        def make() -> Any:
            first, second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
            return nn.Sequential(first, nn.ReLU(), second)

        return described, make, (batch, channels, pixels, pixels)

    sizes = [(128, 16, 28), (128, 32, 14), (128, 32, 56), (128, 64, 28), (128, 256, 14)]
    cases = [case(*each) for each in sizes]
    return beside("cuDNN", _cuda.set_large_convolution, cases, seconds)


def pynn_steps(workload: Any, precision: str, seconds: float) -> dict[str, float]:
    """Seconds of a step: in an epoch on resident data, and with a batch from the host."""
    import numpy as np

    import pynn
    from benchmarks.peers.pynn_peer import network
    from pynn import nn, optim

    model = network(workload.layers)
    for parameter, values in zip(model.parameters(), workload.parameters(), strict=True):
        parameter.data = values
    loss = nn.MSELoss() if workload.loss == "mse" else nn.CrossEntropyLoss()
    optimizer = optim.SGD(model.parameters(), lr=workload.lr, momentum=workload.momentum)
    x, y = workload.inputs()
    with pynn.backend("cuda", precision=precision):
        step = pynn.compile(model, loss, optimizer)
        first = float(step(x, y))
        there = pynn.cuda.asarray(x), pynn.cuda.asarray(y)
        steps = 512
        order = np.tile(np.arange(len(x)), steps)

        def epoch() -> None:
            step.epoch(*there, order, batch_size=len(x), scale=1.0)

        each = timed(epoch, pynn.cuda.synchronize, seconds) / steps
        single = timed(lambda: step(x, y), pynn.cuda.synchronize, seconds)
    return {"loss": first, "epoch": each, "single": single}


def torch_steps(workload: Any, mode: str, tf32: bool, seconds: float) -> dict[str, float]:
    """Seconds of a step of PyTorch on resident data: "eager", "graph" or "compiled"."""
    import torch

    from benchmarks.peers.torch_peer import network

    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    torch._dynamo.reset()
    model = network(workload.layers)
    with torch.no_grad():
        for parameter, values in zip(model.parameters(), workload.parameters(), strict=True):
            parameter.copy_(torch.from_numpy(values))
    model = model.cuda()
    x, y = (torch.from_numpy(array).cuda() for array in workload.inputs())
    loss = torch.nn.MSELoss() if workload.loss == "mse" else torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=workload.lr, momentum=workload.momentum, foreach=True
    )

    def forward() -> Any:
        return loss(model(x), y)

    run = torch.compile(forward, mode="max-autotune") if mode == "compiled" else forward

    def step() -> Any:
        optimizer.zero_grad(set_to_none=True)
        value = run()
        value.backward()
        optimizer.step()
        return value

    first = float(step().detach())
    if mode != "graph":
        return {"loss": first, "step": timed(step, torch.cuda.synchronize, seconds)}
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    optimizer.zero_grad(set_to_none=True)
    with torch.cuda.graph(graph):
        value = forward()
        value.backward()
        optimizer.step()
    return {"loss": first, "step": timed(graph.replay, torch.cuda.synchronize, seconds)}


def steps(seconds: float, save: Save) -> dict[str, Any]:
    """The nine networks at their batch and at 512, beside PyTorch in three modes. Autotuning, which
    takes a while, comes when all others are done."""
    from dataclasses import replace

    from benchmarks.workloads import TRAINING

    sized = [*TRAINING, *(replace(workload, batch=512) for workload in TRAINING)]
    rows: list[dict[str, Any]] = [
        {"network": each.name, "batch": each.batch, "GFLOP": each.flops() / 1e9} for each in sized
    ]
    begin = time.monotonic()
    modes = ["pynn"] if torch_module() is None else ["pynn", "eager", "graph", "compiled"]
    for late in (False, True):
        for number, (workload, row) in enumerate(zip(sized, rows, strict=True)):
            for precision in ("float32", "tf32"):
                found = row.setdefault(precision, {})
                for mode in modes:
                    if (mode == "compiled") != late:
                        continue
                    name = mode if mode == "pynn" else f"torch {mode}"
                    left = seconds - (time.monotonic() - begin)
                    if left < (40 if late else 5):
                        found[name] = {"error": "not measured: no time was left"}
                        continue
                    each = max(left / (len(rows) - number) / 12, 0.05)
                    if mode == "pynn":
                        found[name] = guarded(pynn_steps, workload, precision, each)
                    else:
                        tf32 = precision == "tf32"
                        found[name] = guarded(torch_steps, workload, mode, tf32, each)
                compare(found, workload.flops())
            save({"rows": rows})
    return {"rows": rows}


def guarded(function: Callable[..., dict[str, float]], *arguments: Any) -> dict[str, Any]:
    """A measurement, or why there is none."""
    try:
        return dict(function(*arguments))
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def compare(found: dict[str, Any], flops: int) -> None:
    """Add ratios: above 1 where pynn is faster."""
    ours = found["pynn"]
    if "epoch" not in ours:
        return
    found["TFLOP_per_s"] = round(flops / ours["epoch"] / 1e12, 3)
    rivals = {
        name: each["step"]
        for name, each in found.items()
        if isinstance(each, dict) and "step" in each
    }
    if "torch eager" in rivals:
        found["torch eager / pynn"] = round(rivals["torch eager"] / ours["epoch"], 2)
    others = [value for name, value in rivals.items() if name != "torch eager"]
    if others:
        found["best other / pynn"] = round(min(others) / ours["epoch"], 2)
    losses = [each["loss"] for each in found.values() if isinstance(each, dict) and "loss" in each]
    found["losses_agree"] = max(losses) - min(losses) <= 2e-2 * max(abs(loss) for loss in losses)


def mnist(folder: Path | None) -> Callable[[float], dict[str, Any]]:
    """Seconds of training until 99 % of the test images are right, from data on the host."""

    def run(seconds: float) -> dict[str, Any]:
        import numpy as np

        import pynn
        from pynn import data, nn, optim

        if folder is None:
            rng = np.random.default_rng(0)
            x, y = rng.integers(0, 256, (60000, 1, 28, 28), np.uint8), rng.integers(0, 10, 60000)
            test = None
        else:
            found = data.load(str(folder))
            x, y = found.train_images.reshape(-1, 1, 28, 28), found.train_labels
            test = (
                found.test_images.reshape(-1, 1, 28, 28).astype(np.float32) / 255,
                found.test_labels,
            )
        results = []
        for seed in range(3):
            pynn.manual_seed(seed)
            model = nn.Sequential(
                nn.Conv2d(1, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 5), nn.ReLU(),
                nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 128), nn.ReLU(), nn.Linear(128, 10),
            )  # fmt: skip
            optimizer = optim.Adam(model.parameters(), lr=2e-3)
            with pynn.backend("cuda"):
                step = pynn.compile(model, nn.CrossEntropyLoss(), optimizer)
                training, accuracy = 0.0, None
                for epoch in range(10):
                    order = np.random.default_rng([seed, epoch]).permutation(len(x))
                    begin = time.perf_counter()
                    step.epoch(x, y, order, batch_size=256)
                    training += time.perf_counter() - begin
                    optimizer.lr *= 0.6
                    if test is not None:
                        model.eval()
                        accuracy = float((model(test[0]).argmax(1) == test[1]).mean())
                        model.train()
                    if accuracy is None or accuracy >= 0.99:
                        break
            results.append(
                {"seed": seed, "epochs": epoch + 1, "seconds": training, "accuracy": accuracy}
            )
        return {
            "data": "synthetic" if folder is None else str(folder),
            "precision": "float32",
            "runs": results,
        }

    return run


def measure(part: str, data: Path | None, seconds: float, save: Save) -> None:
    """One part, in this process, which sees what was built."""
    functions: dict[str, Callable[[float], dict[str, Any]]] = {
        "ceilings": ceilings, "products": products, "convolutions": convolutions,
        "steps": lambda seconds: steps(seconds, save), "mnist": mnist(data),
    }  # fmt: skip
    save(functions[part](seconds))


def in_a_process(part: str, data: Path | None, check: Check) -> Callable[[float], dict[str, Any]]:
    """The same in a process of its own: a device that is lost is lost for this part alone."""

    def run(seconds: float) -> dict[str, Any]:
        out = WORK / f"{part}.json"
        out.unlink(missing_ok=True)
        arguments = [
            sys.executable,
            str(Path(__file__)),
            "--part",
            part,
            "--json",
            str(out),
            "--seconds",
            str(seconds),
        ]
        if data is not None:
            arguments += ["--data", str(data)]
        stopped: dict[str, Any] = {}
        try:
            done = command(arguments, min(seconds * 1.5 + 30, check.left()))
            said = done.stdout + done.stderr
            if done.returncode:
                stopped["error"] = f"it ended with {done.returncode}: {tail(said)}"
        except subprocess.TimeoutExpired as late:
            said = text_of(late)
            stopped["error"] = f"stopped after {late.timeout:.0f} s: {tail(said)}"
        if not out.exists():
            raise RuntimeError(stopped.get("error") or tail(said))
        return dict(json.loads(out.read_text())) | stopped

    return run


def main() -> int:
    """Do everything; 1 where something failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--json", type=Path, default=Path("gpu_check.json"), help="where the report is written"
    )
    parser.add_argument(
        "--data", type=Path, help="a folder of MNIST's IDX files (default: synthetic images)"
    )
    parser.add_argument("--minutes", type=float, default=9.5, help="for everything")
    parser.add_argument(
        "--parts", nargs="*", choices=list(SHARES), default=list(SHARES), help="what is done"
    )
    parser.add_argument("--part", choices=list(MEASURED), help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=60, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part is not None:
        sys.path[:0] = [str(SITE), str(ROOT)]
        path = arguments.json
        measure(
            arguments.part, arguments.data, arguments.seconds,
            lambda result: path.write_text(json.dumps(result)),
        )  # fmt: skip
        return 0
    WORK.mkdir(parents=True, exist_ok=True)
    check = Check(arguments.json, arguments.minutes)
    check.report |= {"python": platform.python_version(), "platform": platform.platform()}
    torch = torch_module()
    check.report["torch"] = (
        None if torch is None else f"{torch.__version__}, CUDA {torch.version.cuda}"
    )
    functions: dict[str, Callable[[float], Any]] = {
        "build": build, "tests": tests, "sanitizer": sanitizer,
        **{part: in_a_process(part, arguments.data, check) for part in MEASURED},
    }  # fmt: skip
    # What was measured comes before what takes long.
    for part in (
        "build", "tests", "ceilings", "mnist", "products", "convolutions", "steps", "sanitizer",
    ):  # fmt: skip
        if part in arguments.parts:
            check.run(part, functions[part])
    check.report["complete"] = all(
        not (isinstance(check.report.get(part), dict) and "error" in check.report[part])
        for part in arguments.parts
    )
    check.path.write_text(json.dumps(check.report, indent=1))
    print(f"the report is {check.path}")
    return 0 if check.report["complete"] and not check.report.get("tests", {}).get("failed") else 1


if __name__ == "__main__":
    sys.exit(main())
