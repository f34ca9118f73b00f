// How many threads step a call. On an idle machine waking one costs microseconds; on a busy one the
// team waits at its end for a thread that has no core, a time slice of milliseconds. So small calls
// have one thread, and a call that was kept waiting is followed by some with one thread.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>

namespace {

constexpr int64_t GRAIN = 1 << 18;          // elements worth waking a thread for
constexpr double STALL_SECONDS = 1e-3;      // on top of what such a call takes,
constexpr double STALL_FACTOR = 4;          // and of what its neighbours' caches cost it
constexpr int MAX_PAUSE = 64;               // calls with one thread, before the next trial

std::atomic<int> pause_left{0}, next_pause{1};
std::atomic<double> best_rate{0};  // seconds an element, of the quickest call with a team

}  // namespace

// The team for a call over `total` elements, of at most `threads`.
extern "C" __attribute__((visibility("default"))) int lion_team(int64_t total, int threads) {
  const int team = static_cast<int>(std::clamp<int64_t>(total / GRAIN, 1, std::max(threads, 1)));
  if (team > 1 && pause_left > 0) {
    --pause_left;
    return 1;
  }
  return team;
}

// To be told what a team took. Threads may race here: all of it is a guess.
extern "C" __attribute__((visibility("default"))) void lion_took(int64_t total, int team,
                                                                 double seconds) {
  if (team == 1 || total == 0) return;
  const double rate = seconds / total;
  if (best_rate == 0 || rate < best_rate) best_rate = rate;
  if (seconds > STALL_SECONDS + STALL_FACTOR * best_rate * total) {
    pause_left = next_pause.load();
    next_pause = std::min(2 * next_pause, MAX_PAUSE);
  } else {
    next_pause = std::max(next_pause / 2, 1);
  }
}
