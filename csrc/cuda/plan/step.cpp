#include "cuda/plan/step.h"

#include <algorithm>
#include <cstring>

#include "cuda/kernels/cross_entropy.h"
#include "cuda/kernels/gather.h"
#include "cuda/kernels/layout.h"
#include "cuda/kernels/mse_loss.h"
#include "cuda/plan/operations.h"
#include "cuda/runtime/errors.h"
#include "cuda/runtime/session.h"

namespace pynn::cuda {
namespace {

constexpr std::int64_t kTogether = 8;  // steps in one graph

// What the host asks for after a step lies side by side, so that it is one copy: the state, the
// loss of a single step, and the norm of the gradients.
constexpr std::int64_t kLossAt = 64, kNormAt = 72, kHeaderBytes = 128;
static_assert(sizeof(StepState) <= kLossAt);

template <typename T>
std::int64_t settings_bytes(std::size_t rule) {
  const std::size_t sizes[] = {sizeof(SgdSettings<T>), sizeof(AdamSettings<T>),
                               sizeof(RmspropSettings<T>)};
  return static_cast<std::int64_t>(sizes[rule]);
}

}  // namespace

template <typename T>
Step<T>::Step(Pass<T>& pass) : pass_(pass) {}

template <typename T>
Samples Step<T>::input_samples() const {
  return samples_of(pass_.plan().value(pass_.plan().inputs()[0]).shape);
}
template <typename T>
Samples Step<T>::output_samples() const {
  return samples_of(pass_.plan().value(pass_.plan().output()).shape);
}

template <typename T>
void Step<T>::add_update(int value, int group, T* p, T* state0, T* state1) {
  const Value& v = pass_.plan().value(value);
  ParameterUpdate<T> update;
  update.p = p;
  update.g = pass_.gradient(value);
  update.state[0] = state0;
  update.state[1] = state1;
  update.size = v.count();
  update.group = group;
  update.shards = static_cast<std::int32_t>(v.shards);
  update.shard_stride = v.count();
  updates_.push_back(update);
  groups_ = std::max(groups_, group + 1);
  ready_ = false;
  forget();
}

template <typename T>
void Step<T>::set_limits(double clip_value, double clip_norm) {
  if (clip_value == clip_value_ && clip_norm == clip_norm_) return;
  clip_value_ = clip_value;
  clip_norm_ = clip_norm;
  forget();
}

template <typename T>
void Step<T>::set_loss(const Loss& loss) {
  if (ready_ && loss == loss_) return;
  loss_ = loss;
  ready_ = false;
  forget();
}

template <typename T>
void Step<T>::forget() {
  single_ = {};
  gathered_ = {};
  gathered_many_ = {};
  warm_single_ = warm_gathered_ = false;
}

// Memory of the step, when all that decides its size is known.
template <typename T>
void Step<T>::prepare() {
  if (ready_) return;
  const Samples x = input_samples(), y = output_samples();
  const std::int64_t target = has_labels() ? bytes_of<std::int64_t>(y.N) : bytes_of<T>(y.count());
  constexpr auto kMostSettings =
      static_cast<std::int64_t>(std::max(sizeof(SgdSettings<T>), sizeof(AdamSettings<T>)));
  at_.settings = aligned(kHeaderBytes);
  at_.target = at_.settings + aligned(groups_ * kMostSettings);
  at_.rows = at_.target + target;
  at_.bytes = at_.rows + bytes_of<T>(x.count());
  host_ = PinnedMemory(at_.bytes);
  results_.reserve(kHeaderBytes);
  std::memset(host_.data(), 0, static_cast<std::size_t>(at_.bytes));
  input_ = DeviceMemory(at_.bytes);
  target_ = DeviceMemory(target);
  loss_workspace_ = DeviceMemory(loss_workspace(y.count()));
  clear(loss_workspace_.data(), loss_workspace_.bytes());

  pieces_ = update_pieces<T>(updates_.data(), static_cast<std::int64_t>(updates_.size()), nullptr);
  std::vector<UpdatePiece> pieces(static_cast<std::size_t>(pieces_));
  update_pieces(updates_.data(), static_cast<std::int64_t>(updates_.size()), pieces.data());
  const auto parameters = static_cast<std::int64_t>(updates_.size() * sizeof(ParameterUpdate<T>));
  const auto piece_bytes = pieces_ * static_cast<std::int64_t>(sizeof(UpdatePiece));
  pieces_at_ = aligned(parameters);
  norm_workspace_at_ = pieces_at_ + aligned(piece_bytes);
  tables_ = DeviceMemory(norm_workspace_at_ + aligned(gradient_norm_workspace(pieces_)));
  clear(tables_.data(), tables_.bytes());
  copy_to_device(tables_.data(), updates_.data(), parameters);
  copy_to_device(tables_.data() + pieces_at_, pieces.data(), piece_bytes);
  ready_ = true;
  forget();
}

template <typename T>
T* Step<T>::host_rows() {
  prepare();
  return reinterpret_cast<T*>(host_.data() + at_.rows);
}
template <typename T>
std::int64_t* Step<T>::host_labels() {
  prepare();
  return reinterpret_cast<std::int64_t*>(host_.data() + at_.target);
}
template <typename T>
T* Step<T>::host_target() {
  prepare();
  return reinterpret_cast<T*>(host_.data() + at_.target);
}

template <typename T>
void Step<T>::write_state(std::uint64_t seed, std::uint32_t step, char* to) const {
  StepState state{};
  state.seed = seed;
  state.step = step;
  std::memcpy(to, &state, sizeof state);
}

template <typename T>
void Step<T>::write_settings(const std::vector<Settings<T>>& settings, char* to) const {
  const std::int64_t bytes = settings_bytes<T>(rule_);
  for (const Settings<T>& each : settings) {
    std::visit([&](const auto& s) { std::memcpy(to, &s, sizeof s); }, each);
    to += bytes;
  }
}

// What the host wrote.
template <typename T>
void Step<T>::launch_input(cudaStream_t stream) const {
  const Samples x = input_samples(), y = output_samples();
  const char* const target = input_.data() + at_.target;
  check(cudaMemcpyAsync(input_.data(), host_.data(), static_cast<std::size_t>(at_.bytes),
                        cudaMemcpyHostToDevice, stream),
        "copying a batch to the device");
  gather_batch<T, T>(x.features, x.N, reinterpret_cast<const T*>(input_.data() + at_.rows),
                     has_labels() ? reinterpret_cast<const std::int64_t*>(target) : nullptr,
                     nullptr, state(), 1, 0, pass_.data(pass_.plan().inputs()[0]),
                     reinterpret_cast<std::int64_t*>(target_.data()), stream);
  if (!has_labels())
    transpose(y.N, y.features, reinterpret_cast<const T*>(target),
              reinterpret_cast<T*>(target_.data()), stream);
}

template <typename T>
void Step<T>::launch_gather(const DataSet& data, cudaStream_t stream) const {
  const Samples x = input_samples(), y = output_samples();
  const auto* const order = reinterpret_cast<const std::int64_t*>(order_.data());
  T* const to = pass_.data(pass_.plan().inputs()[0]);
  const auto* const labels = has_labels() ? static_cast<const std::int64_t*>(data.y) : nullptr;
  const auto gather_from = [&](const auto* rows) {
    gather_batch(x.features, x.N, rows, labels, order, state(), data.scale, 0, to,
                 reinterpret_cast<std::int64_t*>(target_.data()), stream);
  };
  switch (data.kind) {
    case DataSet::Kind::uint8:
      gather_from(static_cast<const std::uint8_t*>(data.x));
      break;
    case DataSet::Kind::float32:
      gather_from(static_cast<const float*>(data.x));
      break;
    case DataSet::Kind::float64:
      gather_from(static_cast<const double*>(data.x));
      break;
  }
  if (!has_labels())
    gather(y.features, y.N, static_cast<const T*>(data.y), order, state(), 1, 0,
           reinterpret_cast<T*>(target_.data()), stream);
}

template <typename T>
void Step<T>::launch_loss(cudaStream_t stream) const {
  const Samples y = output_samples();
  const int output = pass_.plan().output();
  const LossResult to{losses_at_, state(), loss_workspace_.data()};
  if (const auto* loss = std::get_if<CrossEntropyLoss>(&loss_)) {
    CrossEntropy<T, std::int64_t> task;
    task.positions = y.N;
    task.C = y.features;
    task.logits = pass_.data(output);
    task.labels = reinterpret_cast<const std::int64_t*>(target_.data());
    task.ignores = loss->ignored_label.has_value();
    task.ignored_label = loss->ignored_label.value_or(0);
    task.smoothing = loss->smoothing;
    task.mean = loss->mean;
    task.gradient = pass_.gradient(output);
    cross_entropy(task, to, stream);
  } else {
    mse_loss<T>(y.count(), std::get<SquaredErrorLoss>(loss_).mean, pass_.data(output),
                reinterpret_cast<const T*>(target_.data()), pass_.gradient(output), nullptr, to,
                stream);
  }
}

template <typename T>
void Step<T>::launch_update(bool advances, cudaStream_t stream) const {
  UpdateTable<T> table;
  table.advances = advances;
  table.parameters = reinterpret_cast<const ParameterUpdate<T>*>(tables_.data());
  table.pieces = reinterpret_cast<const UpdatePiece*>(tables_.data() + pieces_at_);
  table.piece_count = pieces_;
  table.groups = groups_;
  table.clip_value = clip_value_;
  if (clip_norm_ > 0) {
    auto* const norm = reinterpret_cast<double*>(input_.data() + kNormAt);
    gradient_norm(table, norm, state(), tables_.data() + norm_workspace_at_, stream);
    table.clip_norm = clip_norm_;
    table.norm = norm;
  }
  pass_.commit(stream);  // unless the norm, too, says that the step has failed
  const auto run = [&](const auto* settings) { update(table, settings, state(), stream); };
  if (rule_ == 0)
    run(reinterpret_cast<const SgdSettings<T>*>(settings_at_));
  else if (rule_ == 1)
    run(reinterpret_cast<const AdamSettings<T>*>(settings_at_));
  else
    run(reinterpret_cast<const RmspropSettings<T>*>(settings_at_));
}

template <typename T>
void Step<T>::launch_step(cudaStream_t stream) const {
  pass_.forward(0, stream);
  launch_loss(stream);
  pass_.backward(static_cast<int>(pass_.plan().nodes().size()) - 1, stream);
  launch_update(true, stream);
}

template <typename T>
void Step<T>::launch_result(cudaStream_t stream) const {
  check(
      cudaMemcpyAsync(results_.data(), input_.data(), kHeaderBytes, cudaMemcpyDeviceToHost, stream),
      "copying from the device");
}

// Records the work where it is not yet. Where that fails once, all work runs as it is from then on:
// if the work itself is at fault, that says so.
template <typename T>
bool Step<T>::is_recorded(const std::function<void(cudaStream_t)>& work, Graph& graph) {
  if (!not_recorded_.empty()) return false;
  if (!graph.empty()) return true;
  try {
    graph = Graph(work);
  } catch (const Error& error) {
    if (destroys_context(error)) throw;
    not_recorded_ = error.what();
  } catch (const DeviceError& error) {  // of a library
    not_recorded_ = error.what();
  }
  return not_recorded_.empty();
}

// The first time, work runs as it is, so that the device knows every kernel; then it is recorded.
template <typename T>
void Step<T>::launch_or_record(const std::function<void(cudaStream_t)>& work, Graph& graph,
                               bool& warm) {
  if (warm && is_recorded(work, graph)) {
    graph.launch();
  } else {
    work(stream());
    warm = true;
  }
}

template <typename T>
typename Step<T>::Result Step<T>::run(std::uint64_t seed, std::uint32_t step,
                                      const std::vector<Settings<T>>& settings) {
  prepare();
  double* const loss = reinterpret_cast<double*>(input_.data() + kLossAt);
  if (settings[0].index() != rule_ || settings_at_ != input_.data() + at_.settings ||
      losses_at_ != loss) {
    rule_ = settings[0].index();
    settings_at_ = input_.data() + at_.settings;
    losses_at_ = loss;
    forget();
  }
  pass_.use_state(state());
  write_state(seed, step, host_.data());
  write_settings(settings, host_.data() + at_.settings);
  launch_or_record(
      [this](cudaStream_t stream) {
        launch_input(stream);
        launch_step(stream);
        launch_result(stream);
      },
      single_, warm_single_);
  return result(loss, 1);
}

template <typename T>
typename Step<T>::Result Step<T>::run_epoch(const DataSet& data, const std::int64_t* order,
                                            std::int64_t steps, std::uint64_t seed,
                                            std::uint32_t step,
                                            const std::vector<Settings<T>>& settings) {
  prepare();
  const std::int64_t N = input_samples().N;
  const std::int64_t each = settings_bytes<T>(settings[0].index());
  const char* const before[] = {settings_.data(), order_.data(), losses_.data()};
  settings_.reserve(aligned(steps * groups_ * each));
  order_.reserve(bytes_of<std::int64_t>(steps * N));
  losses_.reserve(bytes_of<double>(steps));
  const bool moved = before[0] != settings_.data() || before[1] != order_.data() ||
                     before[2] != losses_.data() || settings_at_ != settings_.data() ||
                     rule_ != settings[0].index();
  if (moved || !(data == data_)) forget();
  rule_ = settings[0].index();
  settings_at_ = settings_.data();
  losses_at_ = reinterpret_cast<double*>(losses_.data());
  data_ = data;
  pass_.use_state(state());
  std::vector<char> written(static_cast<std::size_t>(steps * groups_ * each));
  write_settings(settings, written.data());
  StepState first{};
  first.seed = seed;
  first.step = step;
  copy_to_device(settings_.data(), written.data(), static_cast<std::int64_t>(written.size()));
  copy_to_device(order_.data(), order, steps * N * static_cast<std::int64_t>(sizeof *order));
  copy_to_device(input_.data(), &first, sizeof first);
  const auto one = [this](cudaStream_t stream) {
    launch_gather(data_, stream);
    launch_step(stream);
  };
  const auto many = [&](cudaStream_t stream) {
    for (std::int64_t i = 0; i < kTogether; ++i) one(stream);
  };
  for (std::int64_t done = 0; done < steps;) {
    if (warm_gathered_ && steps - done >= kTogether && is_recorded(many, gathered_many_)) {
      gathered_many_.launch();
      done += kTogether;
    } else {
      launch_or_record(one, gathered_, warm_gathered_);
      ++done;
    }
  }
  launch_result(stream());
  return result(losses_at_, steps);
}

template <typename T>
void Step<T>::forward(std::uint64_t seed, std::uint32_t step) {
  prepare();
  pass_.use_state(state());
  write_state(seed, step, host_.data());
  const Samples x = input_samples();
  check(cudaMemcpyAsync(input_.data(), host_.data(), static_cast<std::size_t>(at_.bytes),
                        cudaMemcpyHostToDevice, stream()),
        "copying a batch to the device");
  gather_batch<T, T>(x.features, x.N, reinterpret_cast<const T*>(input_.data() + at_.rows), nullptr,
                     nullptr, state(), 1, 0, pass_.data(pass_.plan().inputs()[0]), nullptr,
                     stream());
  pass_.forward(0, stream());
}

template <typename T>
typename Step<T>::Result Step<T>::backward(const std::vector<Settings<T>>& settings) {
  rule_ = settings[0].index();
  settings_at_ = input_.data() + at_.settings;
  forget();
  std::vector<char> written(settings.size() * static_cast<std::size_t>(settings_bytes<T>(rule_)));
  write_settings(settings, written.data());
  copy_to_device(input_.data() + at_.settings, written.data(),
                 static_cast<std::int64_t>(written.size()));
  pass_.backward(static_cast<int>(pass_.plan().nodes().size()) - 1, stream());
  launch_update(false, stream());
  launch_result(stream());
  return result(nullptr, 0);
}

// When launch_result has been launched. The losses of many steps are copied when it is known how
// many there are.
template <typename T>
typename Step<T>::Result Step<T>::result(const double* losses, std::int64_t steps) {
  check(cudaStreamSynchronize(stream()), "waiting for the device");
  StepState state;
  std::memcpy(&state, results_.data(), sizeof state);
  Result r;
  r.failed = state.failed != 0;
  if (clip_norm_ > 0) std::memcpy(&r.norm, results_.data() + kNormAt, sizeof r.norm);
  const std::int64_t made = static_cast<std::int64_t>(state.index) + (r.failed ? 1 : 0);
  r.losses.resize(static_cast<std::size_t>(std::min(made, steps)));
  if (steps == 1 && losses != reinterpret_cast<const double*>(losses_.data()))
    std::memcpy(r.losses.data(), results_.data() + kLossAt, sizeof(double));
  else
    copy_to_host(r.losses.data(), losses,
                 static_cast<std::int64_t>(r.losses.size() * sizeof(double)));
  return r;
}

template class Step<float>;
template class Step<double>;

}  // namespace pynn::cuda
