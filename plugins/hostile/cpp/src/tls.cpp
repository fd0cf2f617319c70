// A C++ thread-local with a destructor. Compiled twice: into the plugin, where
// the ledger sees the destructor, and into a shared library of its own, where
// it does not.

#include <atomic>

#ifndef HOSTILE_NAME
#error "HOSTILE_NAME names the function that this file defines"
#endif

namespace {

std::atomic<unsigned long> destroyed{0};

struct Scratch {
    // Written on use, so that the compiler cannot drop the thread-local.
    unsigned long calls = 0;
    ~Scratch() { destroyed.fetch_add(1, std::memory_order_relaxed); }
};

thread_local Scratch scratch;

}  // namespace

// Touches this thread's scratch. Returns how many scratches have been destroyed.
extern "C" unsigned long HOSTILE_NAME() {
    scratch.calls += 1;
    return destroyed.load(std::memory_order_relaxed);
}
