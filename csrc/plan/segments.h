// How threads share the work of a plan: its nodes in segments, each of which all threads finish
// before the next begins.
#pragma once

#include <atomic>

#include "plan/graph.h"

namespace pynn {

// How threads share the work of a segment.
enum class Sharing {
  any,      // as the nodes before
  blocks,   // each takes its blocks of samples through the whole segment, one by one, so that what
            // one stage writes is still in the cache when the next reads it
  samples,  // each takes its blocks through the whole segment, all at once
  parts     // of each stage: a segment is one node
};

struct Segment {
  std::size_t begin, end;  // nodes
  Sharing sharing;
  bool turns = false;     // forward, loss and backward are one walk over the blocks
  std::int64_t work = 0;  // of a block, in floating-point operations, roughly
};

std::vector<Segment> segments_of(const PlanGraph& graph, const std::vector<Value>& values,
                                 std::int64_t element_bytes);

// Whether blocks go one by one through the segment that runs at this time; Builder says what times
// are.
bool passes_blocks(const std::vector<Segment>& segments, int time);

// Calls function(BlockRange) for all blocks. Where they go one by one, a slot is a thread's, which
// takes the next block when it has done one; as many blocks as slots could share evenly do, and of
// the others, all threads do each stage together.
template <typename Function>
void for_each_block(const Segment& segment, std::int64_t blocks, std::int64_t slots,
                    const Function& function) {
  if (segment.sharing == Sharing::parts) return function({0, blocks, 0});
  if (segment.sharing != Sharing::blocks) {
    parallel_for(blocks, segment.work,
                 [&](std::int64_t begin, std::int64_t end) { function({begin, end, 0}); });
    return;
  }
  const std::int64_t each = blocks / slots, shared = each * slots;
  std::atomic<std::int64_t> next{0};
  parallel_for(each > 0 ? slots : 0, each * segment.work,
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t slot = begin; slot < end; ++slot)
                   for (std::int64_t i = next++; i < shared; i = next++) function({i, i + 1, slot});
               });
  if (shared < blocks) function({shared, blocks, 0});
}

}  // namespace pynn
