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

template <typename T>
class Recycled {
 public:
  static void* operator new(size_t size) {
    if (WEFT_RECYCLES && size == sizeof(T) && store().first != nullptr) {
      Free* taken = store().first;
      store().first = taken->next;
      store().count--;
      return taken;
    }
    void* memory = malloc(size);
    if (memory == nullptr) abort();
    return memory;
  }
  static void operator delete(void* memory, size_t size) {
    if (!WEFT_RECYCLES || size != sizeof(T) || store().count == kMost) return free(memory);
    store().first = new (memory) Free{store().first};
    store().count++;
  }

 private:
  // More than one batch ends in a tick.
  static constexpr size_t kMost = 512;
  struct Free {
    Free* next;
  };
  struct Store {
    Free* first = nullptr;
    size_t count = 0;
    ~Store() {
      while (first != nullptr) {
        Free* next = first->next;
        free(first);
        first = next;
      }
      // Whatever the thread still deletes goes to malloc.
      count = kMost;
    }
  };
  // initial-exec: one instruction instead of a call (__tls_get_addr) for what is read twice a request. The few words of all these stores
  // find room in the reserve that glibc keeps for libraries that are loaded late.
  static Store& store() {
    __attribute__((tls_model("initial-exec"))) static thread_local Store instance;
    return instance;
  }
};

}  // namespace weft
