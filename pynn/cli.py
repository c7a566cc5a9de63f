"""The command line: pynn run | bench | info | selftest | new-op."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pynn
from pynn import _core
from pynn.backends import PRECISIONS
from pynn.config import config
from pynn.experiments import STUDIES
from pynn.report.report import COMPARISON_COLUMNS, Report, comparison_cells, duration, show


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pynn",
        description="Neural networks in Python for people who do not need a datacentre.",
    )
    parser.add_argument("--version", action="version", version=f"pynn {pynn.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser(
        "run", help="run a study by name", description="Run a study and write its report. A study "
        "that was interrupted goes on where it stopped when it is run again into the same folder.",
    )  # fmt: skip
    run.add_argument(
        "studies", nargs="*", type=_study, metavar="STUDY", help="one or more of --list; or all"
    )
    run.add_argument("--list", action="store_true", help="list the studies and end")
    run.add_argument(
        "--data", default="digits", metavar="DATA",
        help="digits (embedded, 8 x 8; the default), mnist or fashion-mnist (downloaded once), "
        "or a folder of IDX files",
    )  # fmt: skip
    run.add_argument(
        "--faces", type=Path, metavar="DIR",
        help="for faces and transfer: a folder with one subfolder of images for each person "
        "(default: digits stand in for them)",
    )  # fmt: skip
    run.add_argument(
        "--weights", type=Path, metavar="FILE",
        help="for transfer: a state dict of torchvision's AlexNet (.safetensors, or .pth where "
        "PyTorch is installed)",
    )  # fmt: skip
    run.add_argument(
        "--squeezenet", type=Path, metavar="FILE",
        help="for transfer: weights of SqueezeNet 1.0 (likewise, or the authors' as .npz)",
    )  # fmt: skip
    run.add_argument(
        "--pretrain", metavar="DATA",
        help="for transfer: data to pretrain on where there is no --weights: as for --data, or a "
        "folder of CIFAR-10 (default: half of the classes)",
    )  # fmt: skip
    run.add_argument("--quick", action="store_true", help="a shortened run, of half a minute or so")
    run.add_argument(
        "--epochs", type=_positive, metavar="N", help="instead of the study's own number"
    )
    run.add_argument(
        "--jobs", type=_positive, metavar="J", help="runs at once (default: one for each processor)"
    )
    run.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="S",
        help="of initialisation and shuffling (default 0)",
    )
    run.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for the results (default runs/STUDY-DATA)"
    )
    run.add_argument(
        "--backend", choices=["native", "numpy", "cuda"],
        help="which kernels run (default native); cuda is a GPU",
    )  # fmt: skip
    run.add_argument(
        "--precision", choices=PRECISIONS, help="of products on a GPU (default float32)"
    )
    run.add_argument("--quiet", action="store_true", help="show no progress")

    bench = commands.add_parser(
        "bench",
        help="time native kernels against NumPy",
        description="Time each operator's forward pass, native against its NumPy reference, "
        "in float32. Each answer is checked first.",
    )
    bench.add_argument("operators", nargs="*", metavar="OPERATOR", help="which; all by default")
    info = commands.add_parser("info", help="what this installation is and runs on")
    selftest = commands.add_parser("selftest", help="check this installation in seconds")
    new_op = commands.add_parser(
        "new-op",
        help="start a project of an operator of your own, in C++",
        description="Write a project that pip can install, with one operator and its tests.",
    )
    new_op.add_argument("name", metavar="NAME", help="of the operator: pynn.ops.NAME")
    new_op.add_argument(
        "folder", type=Path, metavar="DIR", help="where to write it; must be new, or empty"
    )
    for command in (bench, info):
        command.add_argument(
            "--library",
            action="append",
            default=[],
            metavar="LIBRARY",
            help="load operators first: from a shared library, or by importing a package; those of "
            "installed packages that announce them (entry points pynn.operators) are loaded anyway",
        )
    for command in (run, bench):
        command.add_argument(
            "--threads",
            type=_positive,
            metavar="T",
            help="default: all processors this process may use",
        )
    for command in (run, bench, info, selftest):
        command.add_argument(
            "--json", action="store_true", help="print one JSON object, on the last line"
        )
    return parser


def _study(text: str) -> str:
    if text != "all" and text not in STUDIES:
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(STUDIES)}, all, got {text!r}")
    return text


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number, 1 or more, got {text}")
    return int(text)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.list or not arguments.studies:
        for name, description in STUDIES.items():
            print(f"{name:<15} {description}")
        return 0
    from pynn import data
    from pynn.experiments.runner import run_studies

    dataset = data.load(arguments.data)
    names = list(STUDIES) if "all" in arguments.studies else list(dict.fromkeys(arguments.studies))
    together = len(names) > 1
    called = "all" if "all" in arguments.studies else "-".join(names)
    out = arguments.out or Path("runs") / f"{called}-{dataset.name}"
    with pynn.backend(arguments.backend or pynn.get_backend(), precision=arguments.precision):
        reports = run_studies(
            names,
            dataset,
            out,
            together=together,
            seed=arguments.seed,
            quick=arguments.quick,
            epochs=arguments.epochs,
            jobs=arguments.jobs or _core.config()["usable_processors"],
            threads=arguments.threads,
            progress=False if arguments.quiet else "auto",
            faces=arguments.faces,
            weights=arguments.weights,
            squeezenet=arguments.squeezenet,
            pretrain=None if arguments.pretrain is None else data.load(arguments.pretrain),
        )
    if arguments.json:
        found = [report.as_json() for report in reports]
        print(json.dumps({"studies": found} if together else found[0], allow_nan=False))
        return 0
    for report in reports:
        _print_report(report)
    page = "index.html" if together else "report.html"
    print(f"the report is {out / page}")
    return 0


def _print_report(report: Report) -> None:
    print(f"{report.title} ({duration(report.seconds)})")
    rows = [comparison_cells(each)[:5] for each in report.comparisons]
    if rows:
        _print_table(
            [list(COMPARISON_COLUMNS[:5]), *[[show(cell) for cell in row] for row in rows]]
        )
    for name, value in report.result.items():
        if isinstance(value, (int, float)):
            print(f"{name.replace('_', ' ')}: {show(value)}")
    print(f"{report.outcome()}\n")


def _print_table(lines: Sequence[Sequence[str]]) -> None:
    """Columns side by side, the first two to the left."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        print(
            "  ".join(
                f"{text:<{w}}" if i < 2 else f"{text:>{w}}"
                for i, (text, w) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
        )


def _bench(arguments: argparse.Namespace) -> int:
    from pynn.bench import bench

    _load(arguments.library)
    rows = bench(arguments.operators)
    if arguments.json:
        print(json.dumps({"config": config(), "rows": rows}))
        return 0
    head = ("operator", "case", "native ms", "numpy ms", "GFLOP/s", "numpy / native")
    lines = [head] + [
        (
            row["operator"], row["case"], f"{row['native_ms']:.4f}",
            "-" if row["numpy_ms"] is None else f"{row['numpy_ms']:.4f}",
            f"{row['gflops']:.2f}", "-" if row["ratio"] is None else f"{row['ratio']:.1f}",
        )
        for row in rows
    ]  # fmt: skip
    _print_table(lines)
    return 0


def _load(libraries: Sequence[str]) -> None:
    """Load operators that are installed, and those that are asked for."""
    from pynn.extension.installed import load_installed, load_named

    for message in load_installed():
        print(f"pynn: {message}", file=sys.stderr)
    for library in libraries:
        load_named(library)


def _info(arguments: argparse.Namespace) -> int:
    from pynn.extension import get_cmake_dir, get_include
    from pynn.extension.library import LOADED
    from pynn.graph import OPERATORS

    _load(arguments.library)
    found = config() | {
        "include": get_include(),
        "cmake": get_cmake_dir(),
        "operator_abi": _core.abi_version,
        "operators": sorted(OPERATORS),
        "libraries": {
            str(path): [table.name for table in tables] for path, (_, tables) in LOADED.items()
        },
    }
    if arguments.json:
        print(json.dumps(found))
        return 0
    pynn.show_config()
    print(f"operator ABI: {found['operator_abi']}, headers in {found['include']}")
    print(f"CMake package: {found['cmake']}")
    print(f"operators: {', '.join(found['operators'])}")
    for path, names in found["libraries"].items():
        print(f"library {path}: {', '.join(names)}")
    return 0


def _new_op(arguments: argparse.Namespace) -> int:
    from pynn.extension.project import new_op

    for path in new_op(arguments.name, arguments.folder):
        print(path)
    # Without a path, pip would take the name as that of a package on its index.
    absolute = arguments.folder.is_absolute()
    folder = shlex.quote(f"{'' if absolute else './'}{arguments.folder}")
    print(
        f"\nNext:\n  pip install {folder}\n  pytest {folder}\n"
        f"and in Python: import pynn_{arguments.name}; pynn.ops.{arguments.name}(x)"
    )
    return 0


def _selftest(arguments: argparse.Namespace) -> int:
    from pynn.testing.selftest import selftest

    report: dict[str, Any] = selftest()
    if arguments.json:
        print(json.dumps(report))
    else:
        for message in report["failed"]:
            print(message, file=sys.stderr)
        print(
            f"pynn {pynn.__version__}: {report['passed']} checks passed, "
            f"{len(report['failed'])} failed"
        )
    return 1 if report["failed"] else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status. Mistakes of the user end in one line on
    standard error."""
    arguments = _parser().parse_args(argv)
    command = {
        "run": _run, "bench": _bench, "info": _info, "selftest": _selftest, "new-op": _new_op,
    }[arguments.command]  # fmt: skip
    try:
        if getattr(arguments, "threads", None):
            pynn.set_num_threads(arguments.threads)
        return command(arguments)
    except (pynn.PynnError, ImportError, OSError, ValueError) as error:
        print(f"pynn: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("pynn: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
