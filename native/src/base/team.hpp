// Numbered tasks on the threads that PyTorch already keeps awake.
#pragma once

#include <cstddef>
#include <functional>

namespace bowerbird {

// Calls task(number) for every number below `count` on at most `threads` threads; returns when all are done.
//
// Where the process has an OpenMP runtime (PyTorch brings one), its team does the work: its threads spin for a while
// after a parallel region, and other threads would have to compete with them for the same cores. What a task throws is thrown
// again when all have ended, one of them if there are several.
void run_team(std::size_t threads, std::size_t count, const std::function<void(std::size_t)>& task);

}  // namespace bowerbird
