// Requests and connections whose decision was put off (kTargetDeferred), by the token of that decision. Owns none of them; bounds how many
// there are. A token's low bits are its place here, the rest tells one use of the place from the next: the answer to a deferral that has
// ended meanwhile finds nobody.
#pragma once
#include <cstdint>
#include <vector>

namespace weft {

// Intrusive: one deferral at a time.
class Deferrable {
 public:
  // TypeScript can decide now: the descriptor stands in a batch again soon.
  virtual void on_answered() = 0;
  bool is_deferred() const { return deferral_ >= 0; }
  // Null: it is no HTTP request.
  virtual class HttpExchange* exchange() { return nullptr; }

 protected:
  ~Deferrable() = default;

 private:
  friend class Deferrals;
  int32_t deferral_ = -1;
};

class Deferrals {
 public:
  static constexpr int32_t kPlaceBits = 16;

  explicit Deferrals(uint32_t capacity) : waiting_(capacity) {}
  // False: no such place, or it is taken.
  bool add(Deferrable* item, int32_t token) {
    const size_t place = place_of(token);
    if (token < 0 || place >= waiting_.size() || waiting_[place] != nullptr) return false;
    waiting_[place] = item;
    item->deferral_ = token;
    return true;
  }
  void remove(Deferrable* item) {
    if (!item->is_deferred()) return;
    waiting_[place_of(item->deferral_)] = nullptr;
    item->deferral_ = -1;
  }
  // Null: it waits no more.
  Deferrable* find(int32_t token) const {
    const size_t place = place_of(token);
    if (token < 0 || place >= waiting_.size()) return nullptr;
    Deferrable* item = waiting_[place];
    return item != nullptr && item->deferral_ == token ? item : nullptr;
  }

 private:
  static size_t place_of(int32_t token) { return static_cast<size_t>(token & ((1 << kPlaceBits) - 1)); }
  std::vector<Deferrable*> waiting_;
};

}  // namespace weft
