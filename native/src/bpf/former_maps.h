// Pinned maps of another version, whose layout this version's programs can't use. Only they are replaced. A struct grows at its end and
// zero there means what was before, so entries are carried over by their first bytes. Programs that are attached keep the maps they were
// loaded with.
#pragma once
#include <cstddef>
#include <string>
#include <vector>

#include "bpf/descriptor.h"

struct bpf_map;
struct bpf_object;

namespace weft::bpf {

class FormerMaps {
 public:
  // Takes the pins of maps that differ from those of the object, which is opened and not loaded.
  void set_aside(bpf_object* object);
  // Nothing came of it: the pins are as before.
  void put_back() const;
  // Into the maps of the object, which is loaded. False: entries of a table have no place in it, and what they said must be written again.
  // Counters start anew, and listeners and beats are the proxy's to write: those are no loss in that sense.
  bool carry_over(const bpf_object* object) const;
  std::vector<std::string> names() const;

 private:
  struct Former {
    std::string name, pin;
    Descriptor map;
  };
  std::vector<Former> maps_;
};

// The first `size` bytes of the entry, zeroes for those that the map's own layout has not.
bool lookup_beginning(int map, const void* key, void* value, size_t size);

}  // namespace weft::bpf
