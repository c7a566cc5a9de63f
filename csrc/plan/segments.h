// How threads share the work of a plan: its nodes in segments, each of which all threads finish
// before the next begins.
#pragma once

#include <algorithm>
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
  std::int64_t blocks = 0;
  std::int64_t folded_work = 0;  // of one more block, which is folded; 0: there is none
};

std::vector<Segment> segments_of(const PlanGraph& graph, const std::vector<Value>& values,
                                 std::int64_t element_bytes);

// Whether blocks go one by one through the segment that runs at this time; Builder says what times
// are.
bool passes_blocks(const std::vector<Segment>& segments, int time);

// Calls function(BlockRange) for all blocks of a segment, and folded() where it has a folded one.
// Where they go one by one, a slot is a thread's, which takes the next block when it has done one,
// or a block's where there are more threads than blocks.
// Of the blocks that slots cannot share evenly, all threads do each stage together, unless that
// costs more than it saves.
template <typename Function, typename Folded>
void for_each_block(const Segment& segment, std::int64_t slots, const Function& function,
                    const Folded& folded) {
  const std::int64_t blocks = segment.blocks;
  if (segment.sharing == Sharing::parts) return function({0, blocks, 0});
  if (segment.sharing != Sharing::blocks) {
    parallel_for(blocks, segment.work,
                 [&](std::int64_t begin, std::int64_t end) { function({begin, end, 0}); });
    return;
  }
  // What it costs to share a block, in floating-point operations: threads wait for each other, and
  // read what others have written.
  constexpr std::int64_t kToShare = 1 << 21;
  const bool folds = segment.folded_work > 0;
  const std::int64_t rest = blocks % slots, left = rest * segment.work + segment.folded_work;
  const std::int64_t together = left * 11 / 10 / num_threads() + kToShare;
  const bool all = (rest > 0 ? segment.work : segment.folded_work) <= together;
  const std::int64_t taken = all ? blocks : blocks - rest, units = taken + (all && folds ? 1 : 0);
  std::atomic<std::int64_t> next{0};
  parallel_for(std::min(units, slots), taken * segment.work / slots,
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t slot = begin; slot < end; ++slot)
                   for (std::int64_t i = next++; i < units; i = next++)
                     i < blocks ? function({i, i + 1, blocks < slots ? i : slot}) : folded();
               });
  if (taken < blocks) function({taken, blocks, 0});
  if (folds && !all) folded();
}

}  // namespace pynn
