// Memory for objects that come and go with every request: a class that derives from Recycled<itself> takes it from the thread's own store
// of those that went before, which malloc can't know will come back at once. Bounded; under AddressSanitizer it is malloc's, so that use
// after free is seen.
#pragma once
#include <cstddef>
#include <cstdlib>
#include <new>

namespace weft {

#if defined(__SANITIZE_ADDRESS__)
#define WEFT_RECYCLES 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WEFT_RECYCLES 0
#endif
#endif
#ifndef WEFT_RECYCLES
#define WEFT_RECYCLES 1
#endif

// `kMost`: as many are kept; more than one batch ends in a tick.
template <typename T, size_t kMost = 512>
class Recycled {
 public:
  static void* operator new(size_t size) {
    if (WEFT_RECYCLES && size == sizeof(T) && store_.first != nullptr) {
      Free* taken = store_.first;
      store_.first = taken->next;
      store_.count--;
      return taken;
    }
    emptied_at_exit();
    void* memory = malloc(size);
    if (memory == nullptr) abort();
    return memory;
  }
  static void operator delete(void* memory, size_t size) {
    if (!WEFT_RECYCLES || size != sizeof(T) || store_.count == kMost) return free(memory);
    store_.first = new (memory) Free{store_.first};
    store_.count++;
  }

 private:
  struct Free {
    Free* next;
  };
  struct Store {
    Free* first;
    size_t count;
  };
  // Frees the thread's store when the thread ends. An object beside it: the store itself is without constructor and destructor, and so read
  // without asking each time whether it was made.
  struct Emptied {
    ~Emptied() {
      while (store_.first != nullptr) {
        Free* next = store_.first->next;
        free(store_.first);
        store_.first = next;
      }
      // Whatever the thread still deletes goes to malloc.
      store_.count = kMost;
    }
  };
  // Called with each object that comes from malloc: without one there is nothing to free.
  static void emptied_at_exit() {
    static thread_local Emptied emptied;
    static_cast<void>(&emptied);
  }
  // initial-exec: one instruction instead of a call (__tls_get_addr) for what is read twice a request. The few words of all these stores
  // find room in the reserve that glibc keeps for libraries that are loaded late.
  __attribute__((tls_model("initial-exec"))) static inline constinit thread_local Store store_ = {nullptr, 0};
};

}  // namespace weft
