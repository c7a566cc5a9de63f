"""Several Python threads at once: the same bits as one after another, and nothing lost."""

import copy
import os
import shutil
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

import pynn
from pynn import LibraryError, StateError, data, nn, ops, optim
from pynn.extension import inline
from pynn.extension.library import load_path
from pynn.graph import OPERATORS
from pynn.nn.parameter import Parameter

RNG = np.random.default_rng(0)
X = RNG.random((80, 1, 8, 8), dtype=np.float32)
Y = np.arange(80) % 10

pytestmark = pytest.mark.usefixtures("many_switches")


@pytest.fixture
def many_switches():
    """Threads take turns as often as they can."""
    before, threads = sys.getswitchinterval(), pynn.get_num_threads()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)
    pynn.set_num_threads(threads)


def at_once(*functions):
    """Call each in a thread of its own, all at the same moment; what they gave."""
    barrier = threading.Barrier(len(functions))
    results, errors = [None] * len(functions), []

    def work(place):
        try:
            barrier.wait(timeout=60)
            results[place] = functions[place]()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(place,)) for place in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"
    if errors:
        raise errors[0]
    return results


def convnet(seed=0):
    rng = np.random.default_rng(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, rng=rng), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Dropout(0.3), nn.Linear(36, 10, rng=rng),
    )  # fmt: skip


def state_of(model):
    return b"".join(array.tobytes() for array in model.state_dict().values())


def batches_of(number, sizes=(16, 33, 80, 7)):
    """Batches that differ from thread to thread; some are too small for a plan."""
    return [np.roll(X, number, axis=0)[:size] * (number + 1) for size in sizes]


# Calls


def test_one_model_answers_several_threads():
    model = convnet().eval()
    expected = [[model(x) for x in batches_of(n)] for n in range(4)]

    def calls(number):
        return [[model(x) for x in batches_of(number)] for _ in range(25)]

    for number, rounds in enumerate(at_once(*(lambda n=n: calls(n) for n in range(4)))):
        for outputs in rounds:
            assert all(map(np.array_equal, outputs, expected[number]))


def test_a_first_call_may_be_several():
    for _ in range(15):
        model = convnet().eval()
        expected = copy.deepcopy(model)(X)
        outputs = at_once(*(lambda model=model: model(X) for _ in range(4)))
        assert all(np.array_equal(output, expected) for output in outputs)
        segments = {id(parameter.segment) for parameter in model.parameters()}
        assert len(segments) == 1  # laid out once


def test_the_number_of_threads_may_change_at_any_moment():
    model = convnet().eval()
    expected = model(X)
    stop = threading.Event()

    def change():
        counts = 0
        while not stop.is_set():
            pynn.set_num_threads(1 + counts % 5)
            counts += 1

    def calls():
        try:
            return [model(X) for _ in range(40)]
        finally:
            stop.set()

    _, one, other = at_once(change, calls, calls)
    assert all(np.array_equal(output, expected) for output in one + other)


@pytest.mark.parametrize("backend", ["native", "numpy"])
def test_operators_run_at_once(backend):
    large = RNG.standard_normal((64, 3, 24, 24)).astype("f")
    w = RNG.standard_normal((8, 3, 3, 3)).astype("f")
    a, b = (RNG.standard_normal((150, 150)) for _ in range(2))
    calls = [
        lambda: ops.conv2d(large, w, padding=1),
        lambda: ops.matmul(a, b),
        lambda: ops.softmax(a),
        lambda: ops.dropout(a, p=0.5, seed=3),
        lambda: ops.max_pool2d(large, 2),
    ]

    def several(call):
        with pynn.backend(backend):  # of this thread alone
            results = []
            for count in range(1, 6):
                pynn.set_num_threads(count)
                results.append(call())
            return results

    expected = [several(call)[0] for call in calls]
    for _ in range(3):
        for results, one in zip(
            at_once(*(lambda call=call: several(call) for call in calls)), expected, strict=True
        ):
            assert all(np.array_equal(result, one) for result in results)
    assert pynn.get_backend() == "native"


def test_a_back_end_is_of_one_thread():
    entered, seen = threading.Event(), threading.Event()

    def numpy():
        with pynn.backend("numpy"):
            entered.set()
            seen.wait(60)
            return pynn.get_backend()

    def native():
        entered.wait(60)
        name = pynn.get_backend()
        seen.set()
        return name

    assert at_once(numpy, native) == ["numpy", "native"]


# Training


def trainings(seed, optimiser):
    """One fused and one whose updates wait for all gradients."""
    model = convnet(seed)
    step = pynn.compile(model, nn.CrossEntropyLoss(), optimiser(model))
    losses = [step(x, Y[: len(x)]) for _ in range(5) for x in batches_of(seed, (80, 33, 7))]
    return losses, state_of(model)


@pytest.mark.parametrize(
    "optimiser",
    [
        lambda model: optim.Adam(model.parameters(), lr=0.01),
        lambda model: optim.SGD(model.parameters(), lr=0.1, clip_norm=1.0),
    ],
    ids=["fused", "clipped"],
)
def test_models_train_at_once(optimiser):
    alone = [trainings(seed, optimiser) for seed in range(4)]
    for _ in range(3):
        assert alone == at_once(*(lambda s=seed: trainings(s, optimiser) for seed in range(4)))


@pytest.mark.parametrize("clip_norm", [None, 1e9])
def test_steps_of_one_model_wait_for_each_other(clip_norm):
    """Two trainings of one model: each step is whole, in whichever order they come."""
    model = nn.Linear(200, 100, weight_init=0.0, bias_init=0.0)
    zeros = np.zeros((32, 200), np.float32)
    optimiser = optim.SGD(model.parameters(), lr=1.0, clip_norm=clip_norm)
    steps = [pynn.compile(model, Ones(), optimiser) for _ in range(2)]
    at_once(*(lambda step=step: [step(zeros, zeros) for _ in range(100)] for step in steps))
    # Each step takes 32 from each bias: sums of small integers, which are exact in any order.
    assert (model.bias.data == -32 * 200).all()
    assert model._run_steps == 200
    assert [step.steps for step in steps] == [100, 100]


class Ones(nn.losses.Loss):
    """The sum of the outputs."""

    def value_and_gradient(self, y, target):
        return float(y.sum()), np.ones_like(y)


@pytest.mark.parametrize("steps", [1, 2])
def test_states_are_of_a_moment_between_two_steps(steps):
    model = nn.Linear(2000, 100, weight_init=0.0, bias_init=0.0)
    ones = np.ones((16, 2000), np.float32)
    optimiser = optim.SGD(model.parameters(), lr=1.0)
    several = [pynn.compile(model, Ones(), optimiser) for _ in range(steps)]
    trained, stop = threading.Event(), threading.Event()

    def train(step):
        while not stop.is_set():
            step(ones, ones)
            trained.set()

    def read():
        try:
            first = model.state_dict()
            trained.wait(30)
            return [first, *(model.state_dict() for _ in range(60))]
        finally:
            stop.set()

    *_, states = at_once(*(lambda step=step: train(step) for step in several), read)
    for state in states:
        # Every element loses 16 in each step.
        assert np.unique(np.concatenate([array.ravel() for array in state.values()])).size == 1
        assert state["bias"][0] % 16 == 0
    values = [state["bias"][0] for state in states]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0


def test_a_state_is_loaded_between_two_steps():
    model = nn.Linear(500, 100, weight_init=0.0, bias_init=0.0)
    zeros = np.zeros((16, 500), np.float32)
    step = pynn.compile(model, Ones(), optim.SGD(model.parameters(), lr=0.0))
    states = [{n: np.full_like(a, v) for n, a in model.state_dict().items()} for v in (1, 2)]

    def load(state):
        for _ in range(50):
            model.load_state_dict(state)
            read = model.state_dict()
            assert np.unique(np.concatenate([array.ravel() for array in read.values()])).size == 1

    at_once(
        lambda: load(states[0]), lambda: load(states[1]),
        lambda: [step(zeros, zeros) for _ in range(50)],
    )  # fmt: skip


def test_calls_while_another_thread_trains_give_some_output():
    """Values are of no one moment, but memory is sound."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    other = copy.deepcopy(model).eval()
    step = pynn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.01))
    expected = other(X)

    def copies():
        for _ in range(30):
            other.load_state_dict(model.state_dict())
            assert np.isfinite(other(X)).all()

    _, outputs, _ = at_once(
        lambda: [step(X, Y) for _ in range(60)],
        lambda: [model.plan((80, 1, 8, 8)).explain() for _ in range(30)],
        copies,
    )
    assert len(set(outputs)) == 1
    other.load_state_dict(model.state_dict())  # the last copy may have come before the first step
    assert not np.array_equal(other(X), expected)


def test_a_first_call_and_a_first_step_may_come_at_once():
    """Both lay the parameters out."""
    for _ in range(20):
        parameters = [Parameter(np.full(50, n)) for n in range(20)]
        model = nn.Module()
        for number, parameter in enumerate(parameters):
            setattr(model, f"p{number}", parameter)
        model.forward = lambda x, parameters=parameters: sum(parameters, x)
        optimiser = optim.SGD(parameters, lr=0.1)
        model.eval()
        at_once(lambda m=model: m(np.zeros((16, 50))), optimiser._lay_out)
        assert len({id(parameter.segment) for parameter in parameters}) == 1
        segment = parameters[0].segment
        for number, parameter in enumerate(parameters):
            assert np.shares_memory(parameter.data, segment.data)
            assert (parameter.data == number).all()


def test_backward_of_another_threads_call_is_refused():
    model = nn.Linear(3, 2)
    model(np.ones((4, 3)))

    def backward():
        with pytest.raises(StateError, match="another thread's"):
            model.backward(np.ones((4, 2)))

    at_once(backward)
    model.backward(np.ones((4, 2)))  # the thread that called may
    assert (model.bias.grad == 4).all()


def test_by_hand_one_thread_at_a_time_or_refused():
    """Each round trip gives its gradient, or a StateError and nothing."""
    model = nn.Linear(50, 60)
    ones, rounds = np.ones((32, 50), np.float32), 60

    def train():
        done = 0
        for _ in range(rounds):
            model(ones)
            try:
                model.backward(np.ones((32, 60)))
            except StateError:
                continue
            done += 1
        return done

    done = sum(at_once(train, train, train))
    assert (model.bias.grad == 32 * done).all()
    assert 0 < done <= 3 * rounds


def test_a_loss_may_read_the_state_of_the_model_it_trains():
    model = nn.Linear(4, 2)
    stop = threading.Event()

    class Decay(Ones):
        def value_and_gradient(self, y, target):
            assert len(model.state_dict()) == 2
            return super().value_and_gradient(y, target)

    step = pynn.compile(model, Decay(), optim.SGD(model.parameters(), lr=0.1))

    def train():
        try:
            for _ in range(30):
                step(np.ones((16, 4)), Y[:16])
        finally:
            stop.set()

    def read():
        while not stop.is_set():
            model.state_dict()

    at_once(train, read)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_born_while_another_thread_trains_trains_on():
    model = nn.Linear(2000, 50)
    ones = np.ones((16, 2000), np.float32)
    step = pynn.compile(model, Ones(), optim.SGD(model.parameters(), lr=1e-6))
    pynn.set_num_threads(1)
    step(ones, ones)
    stop = threading.Event()

    def train():
        while not stop.is_set():
            step(ones, ones)

    def fork():
        try:
            for _ in range(4):
                child = os.fork()
                if child == 0:
                    signal.alarm(20)  # a child that hangs is a failure
                    model.state_dict()
                    step(ones, ones)
                    os._exit(0)
                assert os.waitpid(child, 0)[1] == 0
        finally:
            stop.set()

    at_once(train, fork)


# Random numbers and data


def test_one_generator_gives_each_number_once():
    for seed in range(20):
        pynn.manual_seed(seed)
        expected = np.sort(pynn.default_rng().random(400))
        pynn.manual_seed(seed)
        drawn = at_once(*(lambda: pynn.default_rng().random(100) for _ in range(4)))
        assert np.array_equal(np.sort(np.concatenate(drawn)), expected)


def test_a_seed_may_be_set_while_others_draw():
    def draw():
        for _ in range(300):
            assert 0 <= pynn.default_rng().random() < 1

    before = pynn.get_seed()
    at_once(draw, draw, lambda: [pynn.manual_seed(seed) for seed in range(300)])
    pynn.manual_seed(before)


def test_models_are_initialised_by_generators_of_their_own():
    alone = [state_of(convnet(seed)) for seed in range(4)]
    for _ in range(10):
        assert alone == at_once(*(lambda s=seed: state_of(convnet(s)) for seed in range(4)))


def test_data_are_shared_by_batches_of_several_threads():
    images = RNG.integers(0, 256, (500, 5, 5)).astype(np.uint8)
    labels = np.arange(500)

    def epochs(seed):
        batches = data.Batches(images, labels, 64, seed=seed, reuse=True)
        return [(x.tobytes(), y.tobytes()) for _ in range(5) for x, y in batches]

    alone = [epochs(seed) for seed in range(4)]
    for _ in range(3):
        assert alone == at_once(*(lambda s=seed: epochs(s) for seed in range(4)))


# Operators


def twice(x):
    return 2 * x


def forget(*names):
    for name in names:
        if name in OPERATORS:
            ops.unregister(name)


def test_a_name_is_taken_once():
    for _ in range(30):

        def register():
            try:
                return ops.register("of_threads", twice, lambda dy, x: 2 * dy)
            except ValueError:
                return None

        try:
            made = [function for function in at_once(*[register] * 4) if function is not None]
            assert made == [ops.of_threads]
        finally:
            forget("of_threads")


def test_operators_come_and_go_while_models_are_traced():
    class Doubled(nn.Module):
        def forward(self, x):
            return ops.always_there(x) + x

    ops.register("always_there", twice, lambda dy, x: 2 * dy)

    def come_and_go(name):
        for _ in range(40):
            ops.register(name, twice, lambda dy, x: 2 * dy)
            assert (getattr(ops, name)(np.ones(3)) == 2).all()
            ops.unregister(name)

    def trace():
        for _ in range(40):
            assert (Doubled()(np.ones((16, 3), np.float32)) == 3).all()

    try:
        at_once(lambda: come_and_go("op_a"), lambda: come_and_go("op_b"), trace, trace)
    finally:
        forget("always_there", "op_a", "op_b")


SOURCE = """
#include <pynn/op.hpp>

struct Times {
  static void describe(pynn::op::Description<Times>& d) {
    d.name("of_a_library").pointwise();
    d.input("x");
    d.sample("rows", "(5, 7)");
  }
  template <typename T> void forward(const pynn::op::Forward<T>& call) const noexcept {
    for (std::int64_t i = 0; i < call.input(0).size(); ++i) call.y()[i] = FACTOR * call.input(0)[i];
  }
  template <typename T> void backward(const pynn::op::Backward<T>& call) const noexcept {
    for (std::int64_t i = 0; i < call.dy().size(); ++i) call.gradient(0)[i] = FACTOR * call.dy()[i];
  }
};

PYNN_OPERATORS(Times)
"""


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    """Two libraries with an operator of one name."""
    if not any(map(shutil.which, ("c++", "g++", "clang++"))) and "CXX" not in os.environ:
        pytest.skip("there is no C++ compiler")
    folder = tmp_path_factory.mktemp("cache")
    folder.chmod(0o700)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYNN_DATA", str(folder))
        sources = [SOURCE.replace("FACTOR", factor) for factor in ("2", "3")]
        return at_once(*(lambda s=source: inline.compile_library(s, ["-O0"]) for source in sources))


def test_a_library_is_loaded_once(libraries):
    for _ in range(20):
        names = at_once(*(lambda: pynn.load_library(libraries[0]) for _ in range(4)))
        assert names == [["of_a_library"]] * 4
        assert (ops.of_a_library(np.ones(3)) == 2).all()
        forget("of_a_library")


def test_one_of_two_libraries_gets_the_name(libraries):
    for _ in range(20):

        def load(path):
            try:
                return pynn.load_library(path)
            except LibraryError:
                return None

        try:
            loaded = at_once(*(lambda path=path: load(path) for path in libraries))
            assert sorted(names is None for names in loaded) == [False, True]
            factor = 2 if loaded[0] else 3
            assert (ops.of_a_library(np.ones(3)) == factor).all()
        finally:
            forget("of_a_library")


def test_operators_of_libraries_are_replaced_while_models_are_traced(libraries):
    class Times(nn.Module):
        def forward(self, x):
            return ops.of_a_library(x)

    load_path(libraries[0])

    def replace():
        for count in range(60):
            load_path(libraries[count % 2], replace=True)

    def trace():
        outputs = [Times()(np.ones((16, 3), np.float32)) for _ in range(60)]
        assert all(np.unique(output).tolist() in ([2], [3]) for output in outputs)

    try:
        at_once(replace, trace, trace)
    finally:
        forget("of_a_library")


def test_a_thread_that_computes_when_the_interpreter_ends_does_no_harm():
    program = """
import threading, time
import numpy as np
from pynn import ops

started = threading.Event()

def loop():
    a = np.ones((100, 100), np.float32)
    while True:
        ops.matmul(a, a)
        started.set()

threading.Thread(target=loop, daemon=True).start()
started.wait()
print("done")
"""
    for _ in range(5):
        ended = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", "")
