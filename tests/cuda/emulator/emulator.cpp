#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace pynn::cuda {
constexpr std::size_t kSharedBytes = 228 * 1024;
alignas(128) unsigned char dynamic_shared_memory[kSharedBytes];
}  // namespace pynn::cuda

namespace {

std::recursive_mutex mutex;

long long setting(const char* name, long long otherwise) {
  const char* text = std::getenv(name);
  return text && *text ? std::atoll(text) : otherwise;
}

[[noreturn]] void give_up(const char* what) {
  std::fprintf(stderr, "CUDA emulator: %s (block %u %u %u, thread %u %u %u)\n", what, blockIdx.x,
               blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z);
  std::abort();
}

// Fibres: a stack each, and where it was left.

constexpr std::size_t kStackBytes = 128 * 1024;

struct Context {
#if defined(__x86_64__)
  void* stack_pointer = nullptr;
#else
  ucontext_t context;
#endif
  const void* bottom = nullptr;  // of its stack, for AddressSanitizer
  std::size_t size = 0;
};

#if defined(__x86_64__)
extern "C" void pynn_emulator_switch(void** save, void* load);
asm(R"(
.text
.hidden pynn_emulator_switch
.globl pynn_emulator_switch
.type pynn_emulator_switch, @function
pynn_emulator_switch:
  endbr64
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size pynn_emulator_switch, .-pynn_emulator_switch
)");
#endif

void switch_to(Context& from, Context& to, bool leaving_for_good) {
#if defined(__SANITIZE_ADDRESS__)
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(leaving_for_good ? nullptr : &fake_stack, to.bottom, to.size);
#else
  (void)leaving_for_good;
#endif
#if defined(__x86_64__)
  pynn_emulator_switch(&from.stack_pointer, to.stack_pointer);
#else
  swapcontext(&from.context, &to.context);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
}

struct Stack {
  std::unique_ptr<unsigned char[]> bytes{new unsigned char[kStackBytes]};
};

enum class State { fresh, ready, at_block_barrier, at_warp_barrier, done };

struct Warp {
  unsigned waiting = 0, mask = 0;
  std::uint64_t values[2][32] = {};
};

struct Thread {
  Context context;
  Stack* stack = nullptr;
  State state = State::fresh;
  uint3 index{};
  int lane = 0;
  unsigned exchanges = 0;
  Warp* warp = nullptr;
};

std::vector<std::unique_ptr<Stack>> stacks;
std::vector<Stack*> free_stacks;
Context scheduler;
Thread* current = nullptr;
const std::function<void()>* body = nullptr;

void enter() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &scheduler.bottom, &scheduler.size);
#endif
  (*body)();
  current->state = State::done;
  switch_to(current->context, scheduler, true);
  give_up("a finished thread ran on");
}

void start(Thread& thread) {
  if (free_stacks.empty()) {
    stacks.push_back(std::make_unique<Stack>());
    free_stacks.push_back(stacks.back().get());
  }
  thread.stack = free_stacks.back();
  free_stacks.pop_back();
  unsigned char* const bottom = thread.stack->bytes.get();
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(bottom, kStackBytes);
#endif
  thread.context.bottom = bottom;
  thread.context.size = kStackBytes;
#if defined(__x86_64__)
  auto top = reinterpret_cast<std::uintptr_t>(bottom + kStackBytes) & ~std::uintptr_t{15};
  void** frame = reinterpret_cast<void**>(top);
  *--frame = nullptr;                         // where enter would return to
  *--frame = reinterpret_cast<void*>(enter);  // where the first switch returns to
  for (int i = 0; i < 6; ++i) *--frame = nullptr;
  thread.context.stack_pointer = frame;
#else
  getcontext(&thread.context.context);
  thread.context.context.uc_stack.ss_sp = bottom;
  thread.context.context.uc_stack.ss_size = kStackBytes;
  thread.context.context.uc_link = nullptr;
  makecontext(&thread.context.context, enter, 0);
#endif
}

void resume(Thread& thread) {
  if (thread.state == State::fresh) start(thread);
  thread.state = State::ready;
  current = &thread;
  threadIdx = thread.index;
  switch_to(scheduler, thread.context, false);
  if (thread.state == State::done) {
    free_stacks.push_back(thread.stack);
    thread.stack = nullptr;
  }
}

void wait(State state) {
  Thread& thread = *current;
  thread.state = state;
  switch_to(thread.context, scheduler, false);
}

class Order {
 public:
  explicit Order(std::uint64_t seed) : seed_(seed), random_(seed) {}
  void shuffle(std::vector<std::size_t>& items) {
    if (seed_) std::shuffle(items.begin(), items.end(), random_);
  }

 private:
  std::uint64_t seed_;
  std::mt19937_64 random_;
};

void run_block(Order& order, std::vector<Thread>& threads, std::vector<Warp>& warps) {
  std::fill(warps.begin(), warps.end(), Warp{});
  std::vector<std::size_t> turns(threads.size());
  for (std::size_t t = 0; t < threads.size(); ++t) {
    turns[t] = t;
    threads[t].state = State::fresh;
    threads[t].exchanges = 0;
  }
  std::size_t live = threads.size();
  while (live > 0) {
    order.shuffle(turns);
    bool moved = false;
    std::size_t waiting = 0;
    for (const std::size_t t : turns) {
      Thread& thread = threads[t];
      if (thread.state == State::at_block_barrier) ++waiting;
      if (thread.state != State::fresh && thread.state != State::ready) continue;
      resume(thread);
      moved = true;
      if (thread.state == State::done) --live;
      if (thread.state == State::at_block_barrier) ++waiting;
    }
    if (live > 0 && waiting == live) {
      for (Thread& thread : threads)
        if (thread.state == State::at_block_barrier) thread.state = State::ready;
    } else if (!moved && live > 0) {
      give_up("threads wait for one another: a barrier that not all of them reach");
    }
  }
}

void run(const cudaLaunchConfig_t& config, const std::function<void()>& thread_body) {
  static long long launches = 0;
  const long long seed = setting("PYNN_EMULATOR_SHUFFLE", 0);
  Order order(seed ? static_cast<std::uint64_t>(seed * 1000003 + launches++) : 0);
  const dim3 grid = config.gridDim, block = config.blockDim;
  const std::size_t count = std::size_t{block.x} * block.y * block.z;
  std::vector<Thread> threads(count);
  std::vector<Warp> warps((count + 31) / 32);
  for (std::size_t t = 0; t < count; ++t) {
    const auto flat = static_cast<unsigned>(t);
    threads[t].index = {flat % block.x, flat / block.x % block.y, flat / block.x / block.y};
    threads[t].lane = static_cast<int>(t % 32);
    threads[t].warp = &warps[t / 32];
  }
  std::vector<std::size_t> blocks(std::size_t{grid.x} * grid.y * grid.z);
  for (std::size_t b = 0; b < blocks.size(); ++b) blocks[b] = b;
  order.shuffle(blocks);
  body = &thread_body;
  blockDim = block;
  gridDim = grid;
#if defined(__SANITIZE_ADDRESS__)
  unsigned char* const shared = pynn::cuda::dynamic_shared_memory;
  __asan_poison_memory_region(shared + config.dynamicSmemBytes,
                              pynn::cuda::kSharedBytes - config.dynamicSmemBytes);
#endif
  for (const std::size_t b : blocks) {
    const auto flat = static_cast<unsigned>(b);
    blockIdx = {flat % grid.x, flat / grid.x % grid.y, flat / grid.x / grid.y};
    std::memset(pynn::cuda::dynamic_shared_memory, 0xff, config.dynamicSmemBytes);
    run_block(order, threads, warps);
  }
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(shared, pynn::cuda::kSharedBytes);
#endif
}

}  // namespace

namespace pynn::emulator {

void block_barrier() { wait(State::at_block_barrier); }
int lane() { return current->lane; }

const std::uint64_t* exchange(unsigned mask, std::uint64_t value) {
  Thread& thread = *current;
  Warp& warp = *thread.warp;
  const unsigned me = 1u << thread.lane;
  const std::size_t in_warp = std::min<std::size_t>(
      32, std::size_t{blockDim.x} * blockDim.y * blockDim.z -
              (threadIdx.x + std::size_t{blockDim.x} * (threadIdx.y + blockDim.y * threadIdx.z)) /
                  32 * 32);
  const unsigned present = in_warp == 32 ? 0xffffffffu : (1u << in_warp) - 1;
  if (!(mask & me)) give_up("a thread outside of its own mask");
  std::uint64_t* const values = warp.values[thread.exchanges++ % 2];
  values[thread.lane] = value;
  if (warp.waiting == 0)
    warp.mask = mask & present;
  else if (warp.mask != (mask & present))
    give_up("lanes of a warp meet with different masks");
  warp.waiting |= me;
  if (warp.waiting == warp.mask) {
    Thread* const lanes = &thread - thread.lane;
    for (int i = 0; i < 32; ++i)
      if ((warp.mask >> i & 1) && i != thread.lane) {
        if (lanes[i].state != State::at_warp_barrier) give_up("a lane of the mask has left");
        lanes[i].state = State::ready;
      }
    warp.waiting = 0;
  } else {
    wait(State::at_warp_barrier);
  }
  return values;
}

void multiply_fragments_tf32(float (&sum)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  struct Fragments {
    const unsigned *a, *b;
  };
  const Fragments own{a, b};
  const std::uint64_t* const all = exchange(0xffffffffu, reinterpret_cast<std::uintptr_t>(&own));
  const auto of_lane = [all](int lane) { return reinterpret_cast<const Fragments*>(all[lane]); };
  const auto number = [](unsigned bits) { return from_bits<float>(bits & 0xffffe000u); };
  const int group = lane() / 4, member = lane() % 4;
  for (int i = 0; i < 4; ++i) {
    const int row = group + i / 2 * 8, column = member * 2 + i % 2;
    for (int k = 0; k < 8; ++k) {
      const unsigned* const left = of_lane(row % 8 * 4 + k % 4)->a;
      const unsigned* const right = of_lane(column * 4 + k % 4)->b;
      sum[i] += number(left[k / 4 * 2 + row / 8]) * number(right[k / 4]);
    }
  }
  exchange(0xffffffffu, 0);  // until all have read
}

}  // namespace pynn::emulator

unsigned __ballot_sync(unsigned mask, int predicate) {
  const auto* values = pynn::emulator::exchange(mask, predicate ? 1 : 0);
  unsigned result = 0;
  for (int i = 0; i < 32; ++i)
    if ((mask >> i & 1) && values[i]) result |= 1u << i;
  return result;
}

// The host's side.

using Operations = std::vector<std::function<void()>>;

struct Capture {
  Operations operations;
  EmulatedStream* origin = nullptr;
  bool invalid = false;
  std::vector<EmulatedStream*> streams;
};
struct EmulatedStream {
  std::shared_ptr<Capture> capture;
};
struct EmulatedEvent {
  std::shared_ptr<Capture> capture;
  std::chrono::steady_clock::time_point time;
  bool recorded = false;
};
struct EmulatedGraph {
  Operations operations;
};
struct EmulatedGraphExec {
  Operations operations;
};
struct EmulatedPool {};

namespace {

cudaError_t last_error = cudaSuccess;
bool lost = false;
long long launch_count = 0;
std::size_t allocated = 0;
std::map<const char*, std::size_t> device_memory, host_memory;  // begin -> bytes
std::vector<std::weak_ptr<Capture>> captures;

cudaError_t result(cudaError_t error) {
  if (error != cudaSuccess && error != cudaErrorNotReady) last_error = error;
  return error;
}

int devices() { return static_cast<int>(setting("PYNN_EMULATOR_DEVICES", 1)); }
std::size_t total_memory() {
  return static_cast<std::size_t>(setting("PYNN_EMULATOR_MEMORY", 4LL << 30));
}

cudaError_t ready() {
  if (devices() == 0) return cudaErrorNoDevice;
  return lost ? cudaErrorIllegalAddress : cudaSuccess;
}

EmulatedStream* real(cudaStream_t stream) {
  return reinterpret_cast<std::uintptr_t>(stream) <= 2 ? nullptr : stream;
}

// What may not happen while anything is captured.
cudaError_t outside_capture() {
  for (const auto& weak : captures)
    if (const auto capture = weak.lock()) {
      capture->invalid = true;
      return cudaErrorStreamCaptureUnsupported;
    }
  return ready();
}

cudaError_t submit(cudaStream_t stream, std::function<void()> operation) {
  if (const cudaError_t error = ready()) return result(error);
  EmulatedStream* const own = real(stream);
  if (own && own->capture) {
    own->capture->operations.push_back(std::move(operation));
    return cudaSuccess;
  }
  if (!own)  // the legacy stream would wait for the others
    if (const cudaError_t error = outside_capture()) return result(error);
  operation();
  return cudaSuccess;
}

const char* find(const std::map<const char*, std::size_t>& memory, const void* pointer,
                 std::size_t bytes) {
  const auto* p = static_cast<const char*>(pointer);
  auto after = memory.upper_bound(p);
  if (after == memory.begin()) return nullptr;
  --after;
  return p + bytes <= after->first + after->second ? after->first : nullptr;
}

bool fits(cudaMemcpyKind kind, const void* to, const void* from, std::size_t bytes) {
  const bool to_device = find(device_memory, to, bytes),
             from_device = find(device_memory, from, bytes);
  switch (kind) {
    case cudaMemcpyHostToHost:
      return !to_device && !from_device;
    case cudaMemcpyHostToDevice:
      return to_device && !from_device;
    case cudaMemcpyDeviceToHost:
      return !to_device && from_device;
    case cudaMemcpyDeviceToDevice:
      return to_device && from_device;
    default:
      return true;
  }
}

cudaError_t allocate(void** pointer, std::size_t bytes) {
  if (const cudaError_t error = ready()) return result(error);
  *pointer = nullptr;
  if (bytes == 0) return cudaSuccess;
  if (bytes > total_memory() || allocated > total_memory() - bytes)
    return result(cudaErrorMemoryAllocation);
  void* const memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  if (!memory) return result(cudaErrorMemoryAllocation);
  std::memset(memory, 0xff, bytes);
#if defined(__SANITIZE_ADDRESS__)
  const std::size_t rounded = (bytes + 255) / 256 * 256;
  __asan_poison_memory_region(static_cast<char*>(memory) + bytes, rounded - bytes);
#endif
  device_memory[static_cast<const char*>(memory)] = bytes;
  allocated += bytes;
  *pointer = memory;
  return cudaSuccess;
}

cudaError_t release(void* pointer) {
  if (!pointer) return cudaSuccess;
  const auto found = device_memory.find(static_cast<const char*>(pointer));
  if (found == device_memory.end()) return result(cudaErrorInvalidValue);
  allocated -= found->second;
  device_memory.erase(found);
  std::free(pointer);
  return lost ? result(cudaErrorIllegalAddress) : cudaSuccess;
}

}  // namespace

#define LOCK const std::lock_guard<std::recursive_mutex> lock(mutex)

namespace pynn::emulator {

cudaError_t launch(const cudaLaunchConfig_t& config, std::function<void()> thread) {
  LOCK;
  const dim3 grid = config.gridDim, block = config.blockDim;
  const bool valid = grid.x > 0 && grid.y > 0 && grid.z > 0 && grid.x <= 0x7fffffffu &&
                     grid.y <= 65535 && grid.z <= 65535 && block.x > 0 && block.y > 0 &&
                     block.z > 0 && std::size_t{block.x} * block.y * block.z <= 1024 &&
                     block.z <= 64 && config.dynamicSmemBytes <= 48 * 1024;
  if (!valid) return result(cudaErrorInvalidConfiguration);
  const long long at = setting("PYNN_EMULATOR_LOST_AT", -1);
  if (at >= 0 && launch_count++ == at) lost = true;
  return submit(config.stream, [config, thread = std::move(thread)] { run(config, thread); });
}

}  // namespace pynn::emulator

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
#define NAME(code) \
  case code:       \
    return #code
    NAME(cudaSuccess);
    NAME(cudaErrorInvalidValue);
    NAME(cudaErrorMemoryAllocation);
    NAME(cudaErrorInitializationError);
    NAME(cudaErrorInvalidConfiguration);
    NAME(cudaErrorInsufficientDriver);
    NAME(cudaErrorNoDevice);
    NAME(cudaErrorInvalidDevice);
    NAME(cudaErrorInvalidResourceHandle);
    NAME(cudaErrorNotReady);
    NAME(cudaErrorIllegalAddress);
    NAME(cudaErrorPeerAccessAlreadyEnabled);
    NAME(cudaErrorHostMemoryAlreadyRegistered);
    NAME(cudaErrorLaunchFailure);
    NAME(cudaErrorNotSupported);
    NAME(cudaErrorStreamCaptureUnsupported);
    NAME(cudaErrorStreamCaptureInvalidated);
    NAME(cudaErrorStreamCaptureUnjoined);
#undef NAME
    default:
      return "cudaErrorUnknown";
  }
}

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorIllegalAddress:
      return "an illegal memory access was encountered";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
    default:
      return "an error of the emulator";
  }
}

cudaError_t cudaGetLastError() {
  LOCK;
  return std::exchange(last_error, lost ? cudaErrorIllegalAddress : cudaSuccess);
}
cudaError_t cudaPeekAtLastError() { return last_error; }

cudaError_t cudaGetDeviceCount(int* count) {
  *count = devices();
  return *count ? cudaSuccess : result(cudaErrorNoDevice);
}
cudaError_t cudaGetDevice(int* device) {
  *device = static_cast<int>(setting("PYNN_EMULATOR_CHOSEN", 0));
  return devices() ? cudaSuccess : result(cudaErrorNoDevice);
}
cudaError_t cudaSetDevice(int device) {
  if (devices() == 0) return result(cudaErrorNoDevice);
  return device >= 0 && device < devices() ? cudaSuccess : result(cudaErrorInvalidDevice);
}
cudaError_t cudaInitDevice(int device, unsigned, unsigned) { return cudaSetDevice(device); }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (const cudaError_t error = cudaSetDevice(device)) return error;
  *properties = {};
  std::snprintf(properties->name, sizeof properties->name, "CUDA emulator");
  const int capability = static_cast<int>(setting("PYNN_EMULATOR_CAPABILITY", 90));
  properties->totalGlobalMem = total_memory();
  properties->sharedMemPerBlock = 48 * 1024;
  properties->sharedMemPerBlockOptin = properties->sharedMemPerMultiprocessor = 227 * 1024;
  properties->major = capability / 10;
  properties->minor = capability % 10;
  properties->multiProcessorCount = 132;
  properties->warpSize = 32;
  properties->maxThreadsPerBlock = 1024;
  properties->maxThreadsPerMultiProcessor = 2048;
  properties->regsPerBlock = 65536;
  properties->l2CacheSize = 50 << 20;
  properties->concurrentKernels = 1;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp properties;
  if (const cudaError_t error = cudaGetDeviceProperties(&properties, device)) return error;
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = properties.maxThreadsPerBlock;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = static_cast<int>(properties.sharedMemPerBlock);
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(properties.sharedMemPerBlockOptin);
      return cudaSuccess;
    case cudaDevAttrWarpSize:
      *value = 32;
      return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
      *value = properties.multiProcessorCount;
      return cudaSuccess;
    case cudaDevAttrL2CacheSize:
      *value = properties.l2CacheSize;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = properties.major;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = properties.minor;
      return cudaSuccess;
    case cudaDevAttrMemoryPoolsSupported:
      *value = 1;
      return cudaSuccess;
  }
  return result(cudaErrorInvalidValue);
}
cudaError_t cudaDeviceSynchronize() {
  LOCK;
  return result(outside_capture());
}
cudaError_t cudaDeviceReset() {
  LOCK;
  lost = false;
  last_error = cudaSuccess;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = devices() ? CUDART_VERSION : 0;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  LOCK;
  if (const cudaError_t error = ready()) return result(error);
  *total = total_memory();
  *free = *total - allocated;
  return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  LOCK;
  *attributes = {};
  const bool on_device = find(device_memory, pointer, 1), on_host = find(host_memory, pointer, 1);
  attributes->type = on_device ? cudaMemoryTypeDevice
                     : on_host ? cudaMemoryTypeHost
                               : cudaMemoryTypeUnregistered;
  attributes->device = on_device || on_host ? 0 : -2;
  attributes->devicePointer = on_device ? const_cast<void*>(pointer) : nullptr;
  attributes->hostPointer = on_device ? nullptr : const_cast<void*>(pointer);
  return result(ready());
}

cudaError_t cudaMalloc(void** pointer, std::size_t bytes) {
  LOCK;
  if (const cudaError_t error = outside_capture()) return result(error);
  return allocate(pointer, bytes);
}
cudaError_t cudaFree(void* pointer) {
  LOCK;
  if (const cudaError_t error = outside_capture(); error && !lost) return result(error);
  return release(pointer);
}
cudaError_t cudaMallocAsync(void** pointer, std::size_t bytes, cudaStream_t) {
  return cudaMalloc(pointer, bytes);
}
cudaError_t cudaFreeAsync(void* pointer, cudaStream_t) { return cudaFree(pointer); }
cudaError_t cudaHostAlloc(void** pointer, std::size_t bytes, unsigned) {
  LOCK;
  if (const cudaError_t error = outside_capture()) return result(error);
  *pointer = std::malloc(bytes ? bytes : 1);
  if (!*pointer) return result(cudaErrorMemoryAllocation);
  host_memory[static_cast<const char*>(*pointer)] = bytes;
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void** pointer, std::size_t bytes, unsigned flags) {
  return cudaHostAlloc(pointer, bytes, flags);
}
cudaError_t cudaFreeHost(void* pointer) {
  LOCK;
  if (!pointer) return cudaSuccess;
  if (!host_memory.erase(static_cast<const char*>(pointer))) return result(cudaErrorInvalidValue);
  std::free(pointer);
  return lost ? result(cudaErrorIllegalAddress) : cudaSuccess;
}
cudaError_t cudaHostRegister(void* pointer, std::size_t bytes, unsigned) {
  LOCK;
  if (!host_memory.emplace(static_cast<const char*>(pointer), bytes).second)
    return result(cudaErrorHostMemoryAlreadyRegistered);
  return cudaSuccess;
}
cudaError_t cudaHostUnregister(void* pointer) {
  LOCK;
  return host_memory.erase(static_cast<const char*>(pointer)) ? cudaSuccess
                                                              : result(cudaErrorInvalidValue);
}
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int) {
  static EmulatedPool only;
  *pool = &only;
  return cudaSuccess;
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, std::size_t) { return cudaSuccess; }

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  LOCK;
  if (const cudaError_t error = outside_capture()) return result(error);
  if (bytes && !fits(kind, to, from, bytes)) return result(cudaErrorInvalidValue);
  if (bytes) std::memcpy(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  LOCK;
  if (bytes && !fits(kind, to, from, bytes)) return result(cudaErrorInvalidValue);
  return submit(stream, [=] {
    if (bytes) std::memcpy(to, from, bytes);
  });
}
cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from,
                              std::size_t from_pitch, std::size_t width, std::size_t height,
                              cudaMemcpyKind, cudaStream_t stream) {
  LOCK;
  return submit(stream, [=] {
    for (std::size_t row = 0; row < height; ++row)
      std::memcpy(static_cast<char*>(to) + row * to_pitch,
                  static_cast<const char*>(from) + row * from_pitch, width);
  });
}
cudaError_t cudaMemset(void* pointer, int value, std::size_t bytes) {
  return cudaMemsetAsync(pointer, value, bytes, nullptr);
}
cudaError_t cudaMemsetAsync(void* pointer, int value, std::size_t bytes, cudaStream_t stream) {
  LOCK;
  if (bytes && !find(device_memory, pointer, bytes)) return result(cudaErrorInvalidValue);
  return submit(stream, [=] {
    if (bytes) std::memset(pointer, value, bytes);
  });
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  LOCK;
  if (const cudaError_t error = ready()) return result(error);
  *stream = new EmulatedStream;
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  return cudaStreamCreate(stream);
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned, int) {
  return cudaStreamCreate(stream);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  LOCK;
  delete real(stream);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  LOCK;
  EmulatedStream* const own = real(stream);
  if (own && own->capture) {
    own->capture->invalid = true;
    return result(cudaErrorStreamCaptureUnsupported);
  }
  return result(ready());
}
cudaError_t cudaStreamQuery(cudaStream_t stream) { return cudaStreamSynchronize(stream); }
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  LOCK;
  EmulatedStream* const own = real(stream);
  if (event->capture && own && !own->capture) {
    own->capture = event->capture;
    own->capture->streams.push_back(own);
  }
  return result(ready());
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* argument) {
  LOCK;
  return submit(stream, [=] { function(argument); });
}

// For libraries that stand in for NVIDIA's, and know no other way to the streams of this one.
extern "C" __attribute__((visibility("default"))) int pynn_emulator_submit(cudaStream_t stream,
                                                                           void (*function)(void*),
                                                                           void* argument) {
  return cudaLaunchHostFunc(stream, function, argument);
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  LOCK;
  if (const cudaError_t error = ready()) return result(error);
  *event = new EmulatedEvent;
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  return cudaEventCreate(event);
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  LOCK;
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  LOCK;
  if (const cudaError_t error = ready()) return result(error);
  EmulatedStream* const own = real(stream);
  event->capture = own ? own->capture : nullptr;
  event->recorded = true;
  event->time = std::chrono::steady_clock::now();
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  LOCK;
  return event->capture ? result(cudaErrorStreamCaptureUnsupported) : result(ready());
}
cudaError_t cudaEventQuery(cudaEvent_t event) { return cudaEventSynchronize(event); }
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  if (!begin->recorded || !end->recorded) return result(cudaErrorInvalidResourceHandle);
  *milliseconds = std::chrono::duration<float, std::milli>(end->time - begin->time).count();
  return result(ready());
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  LOCK;
  if (const cudaError_t error = ready()) return result(error);
  EmulatedStream* const own = real(stream);
  if (!own || own->capture) return result(cudaErrorStreamCaptureUnsupported);
  own->capture = std::make_shared<Capture>();
  own->capture->origin = own;
  own->capture->streams.push_back(own);
  captures.push_back(own->capture);
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  LOCK;
  EmulatedStream* const own = real(stream);
  *graph = nullptr;
  if (!own || !own->capture || own->capture->origin != own) return result(cudaErrorInvalidValue);
  const std::shared_ptr<Capture> capture = own->capture;
  for (EmulatedStream* const member : capture->streams) member->capture = nullptr;
  captures.erase(std::remove_if(captures.begin(), captures.end(),
                                [&](const auto& weak) {
                                  const auto other = weak.lock();
                                  return !other || other == capture;
                                }),
                 captures.end());
  if (capture->invalid) return result(cudaErrorStreamCaptureInvalidated);
  *graph = new EmulatedGraph{capture->operations};
  return result(ready());
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  LOCK;
  EmulatedStream* const own = real(stream);
  *status = own && own->capture ? (own->capture->invalid ? cudaStreamCaptureStatusInvalidated
                                                         : cudaStreamCaptureStatusActive)
                                : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode*) { return cudaSuccess; }
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  LOCK;
  if (const cudaError_t error = ready()) return result(error);
  if (setting("PYNN_EMULATOR_GRAPHS", 1) == 0) return result(cudaErrorNotSupported);
  *exec = new EmulatedGraphExec{graph->operations};
  return cudaSuccess;
}
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, void*, std::size_t* count) {
  *count = graph->operations.size();
  return cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return result(ready()); }
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  LOCK;
  const long long at = setting("PYNN_EMULATOR_LOST_AT", -1);
  if (at >= 0 && launch_count++ == at) lost = true;
  return submit(stream, [operations = exec->operations] {
    for (const auto& operation : operations) operation();
  });
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  LOCK;
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  LOCK;
  delete exec;
  return cudaSuccess;
}
